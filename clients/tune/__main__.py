"""`python -m clients.tune tune NAME …`, which `./ganvas tune` runs."""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from clients.bench.machine import processor, versions
from clients.tune.evidence import EVIDENCE, PLOT, write_evidence
from clients.tune.measure import LEAST, QUICK, WHOLE, Curve, Measuring, Served
from clients.tune.search import Compare, descend, is_better
from clients.tune.setting import Setting, read_setting, space, with_setting
from ganvas_core.cli import OPTIONS, Cli, UsageError, UserError, run_verbs
from ganvas_core.files import write_atomic
from ganvas_core.names import CERTIFICATE_FILE, CONFIG_FILE, DEFAULT_REPOSITORY

CPU_CONFIG = Path("configs/cpu.pbtxt")


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class TuneOptions:
    """Options of `tune`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    name: Annotated[str, Cli(positional=True)]
    """A model of the repository."""
    slo_p99_ms: Annotated[float, Field(gt=0, le=60_000)]
    """What 99 of 100 requests of one image should take at the most, at Triton, in milliseconds."""
    repository: Annotated[Path, Cli(env="GANVAS_REPOSITORY")] = DEFAULT_REPOSITORY
    """Model repository folder."""
    seconds: Annotated[float, Field(ge=0.2, le=3600)] = 1.5
    """Length of one measurement; longer ones repeat better."""
    grid: bool = False
    """Measure every setting instead of one choice after another, each with its whole curve: ten times as long."""
    dry_run: bool = False
    """Change no configuration; the evidence is written all the same."""


def tune(options: TuneOptions) -> None:
    """Find the instances, threads, batches and queue delay that serve most requests on this machine within a p99.

    The configuration of the newest version is changed in its config.pbtxt and configs/cpu.pbtxt; a `serve` that is
    started later uses it. tuning.json and tuning.png beside them say why. Stop everything else on the machine before.

    Example: ./ganvas tune digits-gan --slo-p99-ms 20
    """
    console = Console()
    folder = options.repository / options.name
    before, settings = _settings(folder)
    measuring = Measuring(
        repository=options.repository,
        name=options.name,
        slo_p99_ms=options.slo_p99_ms,
        seconds=options.seconds,
        labelled=bool(_certificate(folder)["labels"]),
    )

    tried: list[Curve] = []
    start_s = time.monotonic()
    with ExitStack() as stack:
        champion = _serve(stack, measuring, before)

        def compare(best: Setting, setting: Setting) -> tuple[Curve, Curve] | None:
            nonlocal champion
            if best != champion.setting:
                champion = _serve(stack, measuring, best)
            with measuring.served(setting) as challenger:
                if challenger is None:
                    console.print(f"{setting}: not served, or not exactly the certified images", highlight=False)
                    return None
                both = [champion, challenger]
                curves = measuring.curves(both, WHOLE) if options.grid else measuring.curves(both, QUICK, least=LEAST)
            tried.extend(curves)
            for curve in curves:
                console.print(f"{curve.setting}: {_found(curve, options.slo_p99_ms)}", highlight=False, soft_wrap=True)
            return curves[0], curves[1]

        best = (_all if options.grid else descend)(settings, before, compare, options.slo_p99_ms)
        ends = [_serve(stack, measuring, setting) for setting in dict.fromkeys([before, best])]
        curves = measuring.curves(ends, WHOLE)
    was, winner = curves[0], curves[-1]
    if not is_better(winner, was, options.slo_p99_ms):
        winner = was
    about = _about(options, time.monotonic() - start_s, len(settings))
    write_evidence(folder, about=about, before=was, winner=winner, tried=tried, slo_p99_ms=options.slo_p99_ms)
    if not options.dry_run:
        for path in (folder / CONFIG_FILE, folder / CPU_CONFIG):
            text = path.read_text(encoding="utf-8")
            write_atomic(path, with_setting(text, winner.setting).encode())
    _print(console, was, winner, options)


def _serve(stack: ExitStack, measuring: Measuring, setting: Setting) -> Served:
    """Serve a setting until the stack is closed. Raises a UserError if it cannot be."""
    served = stack.enter_context(measuring.served(setting))
    if served is None:
        raise UserError(f"{measuring.name} cannot be served. `./ganvas verify {measuring.name}` says why.")
    return served


def _all(settings: Sequence[Setting], start: Setting, compare: Compare, slo_p99_ms: float) -> Setting:
    """The best of all settings, each measured beside the best before it."""
    best = start
    for challenger in settings:
        curves = compare(best, challenger) if challenger != best else None
        if curves is not None and is_better(curves[1], curves[0], slo_p99_ms):
            best = challenger
    return best


def _settings(folder: Path) -> tuple[Setting, Sequence[Setting]]:
    """The one that is in use, and all that may be chosen."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UsageError(f"there is no {path}. `./ganvas models list` says which models there are.")
    cores = len(os.sched_getaffinity(0))
    certificate = _certificate(folder)
    before = read_setting(path.read_text(encoding="utf-8"), cores)
    settings = space(cores, int(certificate["max_batch_size"]))
    return before, [before, *(setting for setting in settings if setting != before)]


def _certificate(folder: Path) -> dict[str, Any]:
    versions_there = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
    if not versions_there:
        raise UsageError(f"{folder} has no version. Export the model first.")
    found: dict[str, Any] = json.loads((folder / str(max(versions_there)) / CERTIFICATE_FILE).read_bytes())
    return found


def _about(options: TuneOptions, took_s: float, num_settings: int) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{processor()}, {len(os.sched_getaffinity(0))} processors, {platform.platform()}",
        "versions": versions(),
        "seconds_each": options.seconds,
        "took_s": round(took_s, 1),
        "settings": num_settings,
        "grid": options.grid,
    }


def _found(curve: Curve, slo_p99_ms: float) -> str:
    if not curve.points:
        return f"{curve.capacity:,.0f} requests/s at the most"
    rate = curve.rate_within(slo_p99_ms)
    return f"{rate:,.0f} requests/s within p99 {slo_p99_ms:g} ms; {curve.capacity:,.0f} at the most"


def _print(console: Console, before: Curve, winner: Curve, options: TuneOptions) -> None:
    slo_p99_ms = options.slo_p99_ms
    table = Table("setting", "requests/s within p99", "requests/s at the most")
    for title, curve in (("before", before), ("winner", winner)):
        table.add_row(f"{title}: {curve.setting}", f"{curve.rate_within(slo_p99_ms):,.0f}", f"{curve.capacity:,.0f}")
    console.print(table)
    if not winner.rate_within(slo_p99_ms):
        console.print(f"No setting keeps p99 {slo_p99_ms:g} ms at any rate; the winner takes most.", highlight=False)
    folder = options.repository / options.name
    done = "Not changed (--dry-run)" if options.dry_run else "Written"
    console.print(f"{done}: {folder / CONFIG_FILE}. Evidence: {folder / EVIDENCE}, {folder / PLOT}", highlight=False)


if __name__ == "__main__":
    run_verbs(tune)
