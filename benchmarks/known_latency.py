"""The load generator against a server whose latency is known: `python -m benchmarks.known_latency [PART …]`, the parts
being closed, open and loadgen; without any, all.

A KServe v2 server of one worker that takes a fixed time for each request, first come, first served: it keeps the time
at which it will be free, and answers then, so that nothing it does itself adds up. In a closed loop of n callers each
call takes n times that. In an open loop of Poisson arrivals it is the queue M/D/1, whose mean is known by formula
(Pollaczek and Khinchine); and since the generator's arrivals are known too, what each call must take is known exactly
(Lindley's recursion). What a call takes without any queue beyond it (connection, event loops) is measured first and
counted as part of every call of the open loops.

MLPerf's scenarios are measured by LoadGen and by our loops in turn: on a server that takes no processor time, what else
the machine does disturbs neither much.

Ends with exit code 1 when a closed loop is off by more than 5 %, a queue's mean lies outside its interval, or LoadGen
and we differ by more than 10 %.
"""

from __future__ import annotations

import asyncio
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2

from clients.bench.load import LoadJob, LoadReport, run_load
from clients.bench.loadgen.scenarios import measure_scenarios
from clients.bench.options import BenchOptions
from clients.bench.result import SubjectResult
from clients.bench.statistics import of_blocks, percentile
from clients.bench.subject import Subject
from clients.bench.targets import DIRECT_METHOD, Target

CLOSED_MS, OPEN_MS, LOADGEN_MS = 100.0, 10.0, 2.0
"""Service times: of the closed loops, long beside what a call costs without a queue; of the queues, short, so that
they are seen to fill and to empty many times; of LoadGen's scenarios, so short that thousands arrive: the p99 of 400
arrivals at half load lies anywhere from 3.2 to 6.2 service times."""
CALLERS = (1, 4)
LOADS = (0.5, 0.8, 0.95)
BOUND, AGREEMENT = 0.05, 0.10
CLOSED_S, OPEN_S, LOADGEN_S = 45.0, 40.0, 12.0
"""The first gives 450 calls, of which p99 may be claimed."""
IMAGE = bytes(64)


async def serve(service_ms: float) -> None:
    """Print the port, then answer until stdin ends."""
    free_s = 0.0
    reply: bytes = service_pb2.ModelInferResponse(raw_output_contents=[IMAGE]).SerializeToString()

    async def infer(_: bytes, context: Any) -> bytes:
        nonlocal free_s
        now_s = asyncio.get_running_loop().time()
        free_s = max(now_s, free_s) + service_ms / 1e3
        await asyncio.sleep(free_s - now_s)
        return reply

    server = grpc.aio.server()
    service, method = DIRECT_METHOD.strip("/").split("/")
    handler = grpc.unary_unary_rpc_method_handler(infer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


def predicted_ms(report: LoadReport) -> NDArray[np.float64]:
    """What each call of an open loop must take in the queue, by when it was due; of those that count."""
    due_s = np.array(sorted(call.due_s for call in report.calls))
    wait_s = np.zeros(len(due_s))
    for i in range(1, len(due_s)):
        wait_s[i] = max(0.0, wait_s[i - 1] + OPEN_MS / 1e3 - (due_s[i] - due_s[i - 1]))
    return (wait_s[due_s >= report.start_s] + OPEN_MS / 1e3) * 1e3


def mean_of_queue_ms(load: float) -> float:
    """Pollaczek and Khinchine, with a constant service time."""
    return OPEN_MS * (1 + load / (2 * (1 - load)))


def main(parts: Sequence[str]) -> int:
    is_right = True
    for name, (service_ms, measure) in PARTS.items():
        if name in (parts or PARTS):
            with running(service_ms) as target:
                is_right &= measure(target)
    return 0 if is_right else 1


@contextmanager
def running(service_ms: float) -> Iterator[Target]:
    """The server, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.known_latency", "serve", str(service_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield Target(kind="kserve", model="known", address=f"127.0.0.1:{server.stdout.readline().strip()}")
        finally:
            server.stdin.close()


def _closed(target: Target) -> bool:
    table, is_right = Table("closed loop", "expected ms", "p50", "p99", "off by at most"), True
    for callers in CALLERS:
        report = run_load(LoadJob(target=target, kind="closed", concurrency=callers, seconds=CLOSED_S, warmup_s=1.0))
        expected_ms = callers * CLOSED_MS
        p50, p99 = (percentile(report.ok_ms, percent) for percent in (50.0, 99.0))
        off = max(abs(entry.value / expected_ms - 1) for entry in (p50, p99))
        is_right &= off <= BOUND
        table.add_row(f"{callers} callers", f"{expected_ms:g}", f"{p50.value:.2f}", f"{p99.value:.2f}", f"{off:.1%}")
    Console(width=120).print(table)
    return is_right


def _open(target: Target) -> bool:
    table, is_right = (
        Table("M/D/1 at", "theory, mean ms", "measured, less overhead", "95 %", "", "each call off by"),
        True,
    )
    alone = run_load(LoadJob(target=target, kind="open", poisson=False, rate=20.0, seconds=5.0, warmup_s=1.0))
    overhead_ms = float(np.median(alone.ok_ms)) - OPEN_MS
    for load in LOADS:
        # Queues of a higher load take longer to forget, by the square of what is left of the server.
        factor = 1.0 if load < 0.9 else 3.0
        job = LoadJob(target=target, kind="open", rate=load * 1e3 / OPEN_MS, seconds=factor * OPEN_S, warmup_s=5.0)
        report = run_load(job)
        found = of_blocks(report.ok_ms - overhead_ms, lambda block: float(block.mean()), num_blocks=10)
        theory_ms = mean_of_queue_ms(load)
        is_right &= found.holds(theory_ms)
        off = np.abs(report.ok_ms - overhead_ms - predicted_ms(report))
        interval = f"{found.low:.2f} to {found.high:.2f}"
        verdict = "within" if found.holds(theory_ms) else "outside"
        each = f"median {np.median(off):.2f} ms, p99 {np.percentile(off, 99):.2f} ms"
        table.add_row(f"{load:g}", f"{theory_ms:.2f}", f"{found.value:.2f}", interval, verdict, each)
    console = Console(width=120)
    console.print(table)
    console.print(f"overhead without a queue: {overhead_ms:.2f} ms of a call")
    return is_right


def _loadgen(target: Target) -> bool:
    subject = Subject(model="known", targets={"kserve": target})
    options = BenchOptions(rounds=3, seconds=LOADGEN_S)
    result = SubjectResult(model="known", image=None)
    measure_scenarios(subject, options, result, progress=lambda done, total, text: None)
    table = Table("scenario", "figure", "LoadGen", "ours", "ratio")
    for pair in result.scenarios:
        table.add_row(pair.scenario, pair.figure, f"{pair.loadgen:.2f}", f"{pair.own:.2f}", f"{pair.ratio:.3f}")
    Console(width=120).print(table)
    return all(abs(pair.ratio - 1) <= AGREEMENT for pair in result.scenarios)


PARTS: dict[str, tuple[float, Callable[[Target], bool]]] = {
    "closed": (CLOSED_MS, _closed),
    "open": (OPEN_MS, _open),
    "loadgen": (LOADGEN_MS, _loadgen),
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
            runner.run(serve(float(sys.argv[2])))
    else:
        sys.exit(main(sys.argv[1:]))
