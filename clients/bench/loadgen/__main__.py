"""`python -m clients.bench.loadgen`: one scenario of MLPerf LoadGen in a process of its own.

Its job is a line of JSON on stdin: a command line, which every user of the machine sees, would show the key in it.
LoadGen issues queries from a thread of C++; each sample is one call, made on an event loop in another thread, whose end
is told to LoadGen there. Its summary is read from the log that it writes, and the result printed as JSON. A failure is
{"error": …, "kind": …} and exit code 1.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import mlperf_loadgen as loadgen
from pydantic import TypeAdapter
from pydantic_core import to_json

from clients.bench.loadgen.job import ScenarioJob, ScenarioReport
from clients.bench.targets import Connection, WrongAnswerError, connect
from ganvas_core.cli import UserError

CALL_TIMEOUT_S = 120.0


def main() -> int:
    job = TypeAdapter(ScenarioJob).validate_json(sys.stdin.buffer.readline())
    # select() waits to the microsecond, as in our own loops.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    thread = threading.Thread(target=loop.run_forever, name="calls")
    thread.start()
    try:
        connected = asyncio.run_coroutine_threadsafe(connect(job.target, channels=2), loop).result()
        system = _System(job, connected, loop)
        _run(job, system)
        asyncio.run_coroutine_threadsafe(connected.close(), loop).result()
    except UserError as error:
        return _fail(error)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    if system.failure is not None:
        return _fail(system.failure)
    sys.stdout.buffer.write(to_json(system.report))
    return 0


def _fail(error: Exception) -> int:
    said = str(error) if isinstance(error, UserError) else f"a call failed: {error}"
    print(json.dumps({"error": said, "kind": type(error).__name__}))
    return 1


class _System:
    """The system under test, as LoadGen calls it."""

    def __init__(self, job: ScenarioJob, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.failure: Exception | None = None
        self.report: ScenarioReport | None = None
        self.requests = connection.requests
        self._connection = connection
        self._loop = loop
        self._free = asyncio.Semaphore(job.most_under_way)
        self._queries: set[asyncio.Task[None]] = set()

    def issue(self, samples: list[Any]) -> None:
        # The ids are all that the calls need, and the samples are LoadGen's own memory.
        ids = [sample.id for sample in samples]
        self._loop.call_soon_threadsafe(self._begin, ids)

    def flush(self) -> None:
        """All that is issued is under way already."""

    def _begin(self, ids: list[int]) -> None:
        query = self._loop.create_task(self._query(ids))
        self._queries.add(query)
        query.add_done_callback(self._queries.discard)

    async def _query(self, ids: list[int]) -> None:
        await asyncio.gather(*(self._call() for _ in ids))
        # All at once: told of the samples of a large query one by one, LoadGen 6.0.17 crashes.
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample_id, 0, 0) for sample_id in ids])

    async def _call(self) -> None:
        async with self._free:
            try:
                self._connection.check(await self._connection.call(CALL_TIMEOUT_S))
            except Exception as error:  # LoadGen waits for every sample: each must end, and what failed is told later
                # A wrong answer weighs more than a call that failed before it: it ends the whole run.
                if self.failure is None or isinstance(error, WrongAnswerError):
                    self.failure = error


def _run(job: ScenarioJob, system: _System) -> None:
    num_requests = len(system.requests)
    sut = loadgen.ConstructSUT(system.issue, system.flush)
    qsl = loadgen.ConstructQSL(num_requests, num_requests, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory(prefix="ganvas-loadgen-") as folder:
        output = loadgen.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs = loadgen.LogSettings()
        logs.log_output, logs.enable_trace = output, False
        loadgen.StartTestWithLogSettings(sut, qsl, _settings(job), logs)
        loadgen.DestroyQSL(qsl)
        loadgen.DestroySUT(sut)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    system.report = ScenarioReport.of_summary(summary)


def _settings(job: ScenarioJob) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, job.scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(job.seconds * 1e3)
    settings.max_duration_ms = 0 if job.scenario == "Offline" else int(job.seconds * 1e3)
    settings.min_query_count = 1
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = 1 + job.seed
    settings.single_stream_expected_latency_ns = int(job.expected_ms * 1e6)
    settings.single_stream_target_latency_percentile = 0.9
    settings.multi_stream_expected_latency_ns = int(job.expected_ms * 1e6)
    settings.multi_stream_samples_per_query = job.samples_per_query
    settings.multi_stream_target_latency_percentile = 0.99
    settings.server_target_qps = job.rate
    settings.server_target_latency_ns = int(60e9)  # we ask for the latency at a rate, not for a verdict
    settings.server_target_latency_percentile = 0.99
    settings.offline_expected_qps = job.rate
    return settings


if __name__ == "__main__":
    sys.exit(main())
