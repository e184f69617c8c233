"""`python -m clients.bench.load`: one generator's process.

It reads its job, a line of JSON, from stdin: a command line, which every user of the machine sees, would show the key
that is in it. It connects, checks the golden images and writes "ready"; reads the moment to begin from stdin, when all
processes of the job are ready, and ends when stdin does; and writes its report. A failure that its reader should know
is {"error": …} and exit code 1.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import selectors
import sys
import threading
import time

from pydantic import TypeAdapter
from pydantic_core import to_json

from clients.bench.load.job import LoadJob, ProcessReport
from clients.bench.load.loops import Run, closed, open_, streams
from clients.bench.targets import connect
from ganvas_core.cli import UserError


def main() -> int:
    job = TypeAdapter(LoadJob).validate_json(_read_line())

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
    begin = _watch_parent()
    connection = await connect(job.target, channels=job.channels, verify=job.verify)
    print("ready", flush=True)
    begin_s = await begin
    await asyncio.sleep(max(0.0, begin_s - time.monotonic()))
    run = Run(job=job, connection=connection, begin_s=begin_s)
    cpu_share = asyncio.create_task(_cpu_share(begin_s, run.end_s))
    await {"open": open_, "closed": closed, "streams": streams}[job.kind](run)
    await connection.close()
    return ProcessReport(
        start_s=run.start_s,
        calls=run.calls,
        cpu_share=await cpu_share,
        num_checked=connection.num_checked,
        timings_us=connection.timings_us,
        streamed_images=run.streamed_images,
        num_not_begun=run.num_not_begun,
        reasons=run.reasons,
    )


def _watch_parent() -> asyncio.Future[float]:
    """The moment to begin, from stdin. Its end is that of the parent, however it died: this process ends too, or it
    would go on loading a server that nobody measures."""
    loop = asyncio.get_running_loop()
    begin: asyncio.Future[float] = loop.create_future()

    def read() -> None:
        loop.call_soon_threadsafe(begin.set_result, float(_read_line()))
        while os.read(0, 64):
            pass
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return begin


def _read_line() -> bytes:
    """The next line of stdin; nothing is sent after it before it is answered. Ends this process where stdin ends."""
    # os.read: a lock of sys.stdin that a thread holds at the interpreter's end aborts it.
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 65536)
        if not more:
            os._exit(1)
        line += more
    return line


async def _cpu_share(begin_s: float, end_s: float) -> float:
    """Of a core, from the one moment to the other."""
    cpu_s = _cpu_s()
    await asyncio.sleep(end_s - time.monotonic())
    return (_cpu_s() - cpu_s) / (time.monotonic() - begin_s)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
