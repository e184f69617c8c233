"""The typed service against direct Triton, of one or more checkouts side by side in one run.

    python -m benchmarks.typed_path MODEL REPOSITORY [--tree NAME=FOLDER …] [--serve NAME=OPTION …] [--rounds N] …

Each tree (this one by default) runs a `./ganvas serve` of its own over the same repository, all at the same time; every
round measures each of them in turn, idle ones beside, so that a ratio is of one minute of one machine. The servers run
with their defaults but `--log-dir`, as the unit of a service manager would have it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from clients.bench.load import LoadJob, LoadReport, run_load
from clients.bench.targets import Target

HERE = Path(__file__).resolve().parents[1]
PACE_MS = 10.0
WARM_UP_S = 0.4

Measure = Callable[[dict[str, Any], str, int, float], LoadReport]


def _paced(path: str, count: int) -> Measure:
    def measure(ready: dict[str, Any], model: str, labels: int, seconds: float) -> LoadReport:
        target = _target(ready, model, labels, path, count)
        rate = 1e3 / PACE_MS
        return run_load(
            LoadJob(
                target=target,
                kind="open",
                poisson=False,
                rate=rate,
                seconds=seconds,
                warmup_s=WARM_UP_S,
                verify=False,
            )
        )

    return measure


def _closed(path: str, count: int, callers: int) -> Measure:
    def measure(ready: dict[str, Any], model: str, labels: int, seconds: float) -> LoadReport:
        target = _target(ready, model, labels, path, count)
        return run_load(
            LoadJob(
                target=target,
                kind="closed",
                concurrency=callers,
                seconds=seconds,
                warmup_s=WARM_UP_S,
                verify=False,
            )
        )

    return measure


CASES: dict[str, Measure] = {
    "direct, 1 every 10 ms": _paced("direct", 1),
    "service, 1 every 10 ms": _paced("service", 1),
    "direct, 1 caller": _closed("direct", 1, 1),
    "service, 1 caller": _closed("service", 1, 1),
    "direct, 32 x 1": _closed("direct", 1, 32),
    "service, 32 x 1": _closed("service", 1, 32),
    "direct, 4 x 16": _closed("direct", 16, 4),
    "service, 4 x 16": _closed("service", 16, 4),
    "direct, 64 x 16": _closed("direct", 16, 64),
    "service, 64 x 16": _closed("service", 16, 64),
}


def _target(ready: dict[str, Any], model: str, labels: int, path: str, count: int) -> Target:
    if path == "direct":
        return Target(kind="kserve", address=ready["triton_grpc"], model=model, batch_size=count, num_labels=labels)
    return Target(kind="service", address=ready["service"], model=model, batch_size=count, num_labels=labels)


@contextmanager
def served(tree: Path, repository: Path, options: list[str]) -> Iterator[dict[str, Any]]:
    """A `serve` of a checkout, on free ports; gives what its ready file says."""
    with tempfile.TemporaryDirectory(prefix="ganvas-typed-") as scratch:
        ready_file = Path(scratch) / "ready.json"
        ports = [f"--{name}=0" for name in ("port", "triton-grpc-port", "triton-http-port", "metrics-port")]
        command = [sys.executable, "-m", "serving", "serve", f"--repository={repository}", *ports]
        command += [f"--ready-file={ready_file}", f"--log-dir={scratch}/logs", *options]
        environ = os.environ | {"PYTHONPATH": str(tree / "clients/python/src")}
        with (Path(scratch) / "serve.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=tree, env=environ, stdout=log, stderr=log)
        try:
            while not ready_file.exists():
                if process.poll() is not None:
                    sys.exit((Path(scratch) / "serve.log").read_text())
                time.sleep(0.02)
            yield json.loads(ready_file.read_text())
        finally:
            process.terminate()
            process.wait(60)


def main() -> None:
    """Print a table of medians, and every ratio against the first tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--tree", action="append", default=[], help="NAME=FOLDER of a checkout; may be given again")
    parser.add_argument("--serve", action="append", default=[], help="NAME=OPTION for the serve of one tree")
    parser.add_argument("--case", action="append", default=[], help="part of a case's name; default: all cases")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    arguments = parser.parse_args()
    trees = dict(entry.split("=", 1) for entry in arguments.tree) or {"this": str(HERE)}
    options = [entry.split("=", 1) for entry in arguments.serve]
    cases = [case for case in CASES if not arguments.case or any(part in case for part in arguments.case)]
    certificate = json.loads((arguments.repository / arguments.model / "1" / "certificate.json").read_text())
    labels = len(certificate["labels"])
    found: dict[tuple[str, str], list[LoadReport]] = {}
    cpu_ms: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        ready = {
            name: stack.enter_context(
                served(Path(folder), arguments.repository.resolve(), [option for of, option in options if of == name])
            )
            for name, folder in trees.items()
        }
        for number in range(arguments.rounds):
            for case in cases:
                names = list(trees) if number % 2 == 0 else list(reversed(trees))
                for name in names:
                    before_s = _cpu_s(ready[name])
                    result = CASES[case](ready[name], arguments.model, labels, arguments.seconds)
                    found.setdefault((case, name), []).append(result)
                    calls = max(1, len(result.calls))
                    cpu_ms.setdefault((case, name), []).append((_cpu_s(ready[name]) - before_s) / calls * 1e3)
    _print(cases, list(trees), found, cpu_ms)


def _cpu_s(ready: dict[str, Any]) -> float:
    """Seconds of a core that the service's processes have taken so far."""
    total = 0
    for pid in ready.get("service_pids") or [ready["service_pid"]]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _print(
    cases: list[str],
    names: list[str],
    found: dict[tuple[str, str], list[LoadReport]],
    cpu_ms: dict[tuple[str, str], list[float]],
) -> None:
    first = names[0]
    heads = [f"{name}: images/s, p50, p99 ms, service CPU ms a call" for name in names]
    print(f"| | {' | '.join(heads)} | images/s against {first} |")
    print("| --- " * (len(names) + 2) + "|")
    for case in cases:
        cells, ratios = [], []
        for name in names:
            results = found[case, name]
            cells.append(
                f"{statistics.median(result.images_per_s for result in results):,.0f}, "
                f"{statistics.median(result.percentile_ms(50) for result in results):.2f}, "
                f"{statistics.median(result.percentile_ms(99) for result in results):.2f}, "
                f"{statistics.median(cpu_ms[case, name]):.2f}"
            )
            pairs = zip(results, found[case, first], strict=True)
            ratios.append(statistics.median(new.images_per_s / old.images_per_s for new, old in pairs))
        print(f"| {case} | {' | '.join(cells)} | {', '.join(f'{ratio:.2f}' for ratio in ratios[1:])} |")


if __name__ == "__main__":
    main()
