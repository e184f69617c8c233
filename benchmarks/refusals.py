"""What a refused call costs each part of a server, of one or more checkouts in turn.

    python -m benchmarks.refusals MODEL REPOSITORY [--tree NAME=FOLDER …] [--rounds N] [--seconds S]

48 callers of 16 images keep the queue full. Beside them come 300 calls of 8 images a second, which are all refused:
their deadline of 2 s is nearer than the queue is long. Each round starts a `serve` of each tree (this one by default).
The processor time that its parts need for the callers alone is taken off, so that a busy machine shows the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.typed_path import HERE, served
from clients.bench.load import LoadJob, LoadReport, RunningLoad, run_load
from clients.bench.targets import Target
from clients.processes import parts_of

PARTS = ("service", "supervisor", "gateway")
CALLERS, CALLERS_IMAGES = 48, 16
RATE, IMAGES, DEADLINE_S = 300.0, 8, 2.0
FILL_S = 3.0
"""Until the queue is full."""


def cpu_s(pid: int) -> dict[str, float]:
    """Processor time of each part of a serve so far."""
    parts = {**parts_of(pid), "supervisor": [psutil.Process(pid)]}
    times = {part: [process.cpu_times() for process in parts[part]] for part in PARTS}
    return {part: sum(entry.user + entry.system for entry in found) for part, found in times.items()}


def spent(pid: int, act: Callable[[], Any]) -> tuple[float, dict[str, float], Any]:
    """How long something took, the processor time of each part meanwhile, and what came of it."""
    before, begun_s = cpu_s(pid), time.monotonic()
    result = act()
    seconds, after = time.monotonic() - begun_s, cpu_s(pid)
    return seconds, {part: after[part] - before[part] for part in PARTS}, result


def measure(ready: dict[str, Any], model: str, labels: int, seconds: float) -> dict[str, float]:
    """Microseconds of a refused call, and of all calls the part in percent that was refused."""

    def job(images: int, **fields: Any) -> LoadJob:
        target = Target(kind="service", address=ready["service"], model=model, batch_size=images, num_labels=labels)
        return LoadJob(target=target, verify=False, repeat_refused=True, **fields)

    whole_s = FILL_S + 2 * seconds + 4
    callers = RunningLoad(
        job(CALLERS_IMAGES, kind="closed", concurrency=CALLERS, seconds=whole_s, deadline_s=60.0, channels=4)
    )
    time.sleep(FILL_S)
    alone_s, alone, _ = spent(ready["pid"], lambda: time.sleep(seconds))
    refused = job(IMAGES, kind="open", rate=RATE, seconds=seconds, deadline_s=DEADLINE_S, channels=4)
    beside_s, beside, report = spent(ready["pid"], lambda: run_load(refused))
    callers.report()
    extra_s = {part: beside[part] - alone[part] * beside_s / alone_s for part in PARTS}
    return _by_call(extra_s, report, seconds)


def _by_call(extra_s: dict[str, float], report: LoadReport, seconds: float) -> dict[str, float]:
    num_calls = len(report.calls)
    by_call = {part: 1e6 * extra_s[part] / num_calls for part in PARTS}
    return {
        **by_call,
        "all three": sum(by_call.values()),
        "generator": 1e6 * sum(report.cpu_shares) * seconds / num_calls,
        "refused, %": 100 * report.endings.get("RESOURCE_EXHAUSTED", 0) / num_calls,
    }


def main() -> None:
    """Print the median, the smallest and the largest of each tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--tree", action="append", default=[], help="NAME=FOLDER of a checkout; may be given again")
    parser.add_argument("--labels", type=int, default=0, help="of a conditional model")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    trees = dict(entry.split("=", 1) for entry in arguments.tree) or {"this": str(HERE)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for number in range(arguments.rounds):
        for name in list(trees) if number % 2 == 0 else list(reversed(trees)):
            with served(Path(trees[name]), arguments.repository.resolve(), []) as ready:
                entry = measure(ready, arguments.model, arguments.labels, arguments.seconds)
            found[name].append(entry)
            print(f"{name}:", ", ".join(f"{part} {value:.0f}" for part, value in entry.items()), flush=True)
    print(f"\n| us of a refused call | {' | '.join(trees)} |\n|---|{'---|' * len(trees)}")
    for part in next(iter(found.values()))[0]:
        columns = [[entry[part] for entry in found[name]] for name in trees]
        cells = [f"{statistics.median(it):,.0f} ({min(it):,.0f} to {max(it):,.0f})" for it in columns]
        print(f"| {part} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
