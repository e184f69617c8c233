"""`python -m clients.bench.load JOB`: one generator's process.

It connects, checks the golden images and writes "ready"; reads the moment to begin from stdin, when all processes of
the job are ready; and writes its report. A failure that its reader should know is {"error": …} and exit code 1.
"""

from __future__ import annotations

import asyncio
import json
import resource
import selectors
import sys
import time

from pydantic import TypeAdapter
from pydantic_core import to_json

from clients.bench.load.job import LoadJob, ProcessReport
from clients.bench.load.loops import Run, closed, open_, streams
from clients.bench.targets import connect
from ganvas_core.cli import UserError


def main() -> int:
    job = TypeAdapter(LoadJob).validate_json(sys.argv[1])

    def new_loop() -> asyncio.AbstractEventLoop:
        # select() waits to the microsecond, epoll to the millisecond: calls would begin half a millisecond late.
        return asyncio.SelectorEventLoop(selectors.SelectSelector())

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            report = runner.run(_run(job))
    except (UserError, ExceptionGroup) as error:
        told = _told(error)
        print(json.dumps({"error": str(told), "kind": type(told).__name__}), flush=True)
        return 1
    sys.stdout.buffer.write(to_json(report))
    return 0


def _told(error: Exception) -> UserError:
    """The failure that a task group's callers share. Raises what is a defect."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, UserError):
        raise error
    return error


async def _run(job: LoadJob) -> ProcessReport:
    connection = await connect(job.target, channels=job.channels, verify=job.verify)
    print("ready", flush=True)
    begin_s = float(await asyncio.to_thread(sys.stdin.readline))
    await asyncio.sleep(max(0.0, begin_s - time.monotonic()))
    run = Run(job=job, connection=connection, begin_s=begin_s)
    cpu_s = _cpu_s()
    await {"open": open_, "closed": closed, "streams": streams}[job.kind](run)
    cpu_share = (_cpu_s() - cpu_s) / (time.monotonic() - begin_s)
    await connection.close()
    return ProcessReport(
        start_s=run.start_s,
        calls=run.calls,
        cpu_share=cpu_share,
        num_checked=connection.num_checked,
        timings_us=connection.timings_us,
        streamed_images=run.streamed_images,
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
