"""`python -m clients.bench.gateway gateway …`: what the gateway adds to a direct call, with a key and both quotas.

Triton's own port, and the gateway's port to the same Triton, take turns in every round; each ratio is taken within a
round.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from clients.bench.load import LoadJob, run_load
from clients.bench.targets import Target
from clients.local_server import local_server
from ganvas_core.cli import OPTIONS, UserError, run_verbs

CALLERS = 32
PACE_MS = 10.0
QUOTA = "1000000"
"""Of both: never reached, so that the filters do their work and refuse nothing."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class GatewayBenchOptions:
    """Options of `gateway`."""

    env_prefix: ClassVar[None] = None

    repository: Path
    """Model repository folder."""
    model: str
    """A model in it."""
    num_labels: Annotated[int, Field(ge=0)] = 0
    """Of the model; 0 for an unconditional one."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """Rounds; each measures everything in turn."""
    seconds: Annotated[float, Field(ge=0.5, le=3600)] = 4.0
    """Length of one measurement."""


def gateway(options: GatewayBenchOptions) -> None:
    """Measure one-image calls at Triton's own port and through the gateway, with a key without and with quotas.

    Example: python -m clients.bench.gateway gateway --repository model_repository --model digits-gan --num-labels 10
    """
    console = Console()
    figures: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="ganvas-bench-") as scratch:
        keys_file = Path(scratch) / "keys.json"
        keys = {
            "with a key": add_key(keys_file, "plain"),
            "with a key and a rate": add_key(keys_file, "rate", "--rate", QUOTA),
            "with a key and both quotas": add_key(keys_file, "both", "--rate", QUOTA, "--concurrency", QUOTA),
        }
        with local_server(options.repository, arguments=["--keys-file", str(keys_file)]) as server:
            direct = Target(
                kind="kserve", address=server.triton_grpc, model=options.model, num_labels=options.num_labels
            )
            targets = {"Triton's own port": direct}
            for name, key in keys.items():
                metadata = (("authorization", f"Bearer {key}"),)
                targets[f"gateway, {name}"] = replace(direct, address=server.service, metadata=metadata)
            for index in range(options.rounds):
                for name, target in targets.items():
                    figures.setdefault(name, []).append(_measure(target, options.seconds))
                console.print(f"round {index + 1} of {options.rounds}")
    console.print(_table(figures))


def _measure(target: Target, seconds: float) -> tuple[float, float]:
    """p50 in ms of one caller every PACE_MS, and calls a second of CALLERS callers."""
    rate = 1e3 / PACE_MS
    one = run_load(LoadJob(target=target, kind="open", poisson=False, rate=rate, seconds=seconds, warmup_s=1.0))
    many = run_load(LoadJob(target=target, kind="closed", concurrency=CALLERS, seconds=seconds, warmup_s=1.0))
    return one.percentile_ms(50), many.images_per_s


def _table(figures: dict[str, list[tuple[float, float]]]) -> Table:
    table = Table(
        "one image a call", f"p50 ms, 1 every {PACE_MS:g} ms", "added ms", f"images/s, {CALLERS} callers", "ratio"
    )
    base = figures["Triton's own port"]

    for name, rounds in figures.items():
        pairs = list(zip(rounds, base, strict=True))
        p50_ms, images_per_s = (statistics.median(entry[column] for entry in rounds) for column in (0, 1))
        added_ms = statistics.median(ours[0] - bare[0] for ours, bare in pairs)
        ratio = statistics.median(ours[1] / bare[1] for ours, bare in pairs)
        table.add_row(name, f"{p50_ms:.2f}", f"{added_ms:+.2f}", f"{images_per_s:.0f}", f"{ratio:.2f}")
    return table


def add_key(keys_file: Path, name: str, *quotas: str) -> str:
    command = [sys.executable, "-m", "serving", "keys", "add", name, "--keys-file", str(keys_file), *quotas]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"keys add failed: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    run_verbs(gateway)
