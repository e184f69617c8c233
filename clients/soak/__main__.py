"""`python -m clients.soak SCENARIO`: exit code 1 when a demand is missed."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from clients.networks import DCGAN64, TINY, Network, export_version
from clients.soak.demands import Report
from clients.soak.fuzz.run import judge as judge_fuzz
from clients.soak.fuzz.run import run_fuzz
from clients.soak.kills import plan_kills
from clients.soak.mixed import judge, run_mixed, warm
from clients.soak.options import FuzzOptions, MixedOptions, OverloadOptions, SoakOptions, StreamsOptions, SwapsOptions
from clients.soak.overload import judge as judge_overload
from clients.soak.overload import run_overload
from clients.soak.serving import running_trial
from clients.soak.streams import Clients, make_key, run_streams
from clients.soak.streams import judge as judge_streams
from clients.soak.swaps import judge as judge_swaps
from clients.soak.swaps import run_swaps
from clients.soak.truth import Truth
from ganvas_core.cli import run_verbs

console = Console()


def mixed(options: MixedOptions) -> int:
    """Mixed load, every byte checked, while parts of the server are killed and nobody reads its log.

    Example: python -m clients.soak mixed --minutes 30 --kills 20 --out benchmarks/results
    """
    rng, seconds = random.Random(options.seed), options.minutes * 60
    report = _report("mixed", options)
    with _repository(options, TINY) as repository:
        truths = [Truth(repository, network) for network in TINY]
        warm(truths)
        plan = plan_kills(options.kills, seconds=seconds, stops=options.stops, rng=rng)
        with (
            running_trial(repository, arguments=options.serve, read_log=False) as trial,
            _progress(seconds) as progress,
        ):
            load = run_mixed(trial.server, truths, plan, seconds=seconds, rng=rng, progress=progress)
            result = asyncio.run(load)
        judge(result, trial.leavings, report)
    return _end(report, options)


def swaps(options: SwapsOptions) -> int:
    """New versions exported into the repository of a server under load, one after another.

    Example: python -m clients.soak swaps --swaps 20 --out benchmarks/results
    """
    report = _report("swaps", options)
    with _repository(options, TINY[:1]) as source, tempfile.TemporaryDirectory(prefix="ganvas-soak-") as scratch:
        repository = Path(scratch) / "repository"  # a copy, because versions are added
        shutil.copytree(source, repository)
        with running_trial(repository, arguments=options.serve) as trial, _progress(options.swaps) as told:
            result = run_swaps(trial.server, repository, TINY[0], count=options.swaps, progress=told)
        judge_swaps(result, report, count=options.swaps)
        report.demand("left behind", trial.leavings.count, limit=0)
        report.figures["left"] = vars(trial.leavings)
    return _end(report, options)


def fuzz(options: FuzzOptions) -> int:
    """Malformed requests by every way in, each of which must get a proper status.

    Example: python -m clients.soak fuzz --count 20000 --out benchmarks/results
    """
    report = _report("fuzz", options)
    numbers = range(options.first, options.first + options.count)
    with _repository(options, TINY) as repository:
        truth = Truth(repository, TINY[0])
        with running_trial(repository, arguments=options.serve) as trial, _progress(options.count) as told:
            families = tuple(options.families)
            result = run_fuzz(trial.server, truth, seed=options.seed, numbers=numbers, families=families, progress=told)
        judge_fuzz(result, report)
        report.demand("left behind", trial.leavings.count, limit=0)
        report.figures["left"] = vars(trial.leavings)
    return _end(report, options)


def overload(options: OverloadOptions) -> int:
    """Up to three times the load that a 64x64x3 DCGAN generator can bear, and bulk beside single images.

    Example: python -m clients.soak overload --out benchmarks/results
    """
    report = _report("overload", options)
    with _repository(options, [DCGAN64]) as repository, running_trial(repository, arguments=options.serve) as trial:
        result = run_overload(
            trial.server,
            options.model,
            images=options.images,
            seconds=options.seconds,
            steps=options.steps,
            factors=options.factors,
            say=console.print,
        )
    judge_overload(result, report)
    report.demand("left behind", trial.leavings.count, limit=0)
    report.figures["left"] = vars(trial.leavings)
    return _end(report, options)


def streams(options: StreamsOptions) -> int:
    """One stream of a million images, then idle connections and unread streams beside a client that is served.

    Example: python -m clients.soak streams --out benchmarks/results
    """
    report = _report("streams", options)
    arguments = [f"--max-stream-count={max(options.images, 65536)}", *options.serve]
    with _repository(options, TINY[:1]) as repository, tempfile.TemporaryDirectory(prefix="ganvas-soak-") as scratch:
        keys = Path(scratch) / "keys.json"
        clients = Clients(good=make_key(keys, "good"), bad=make_key(keys, "bad"))
        arguments.append(f"--keys-file={keys}")
        truth = Truth(repository, TINY[0])
        with running_trial(repository, arguments=arguments) as trial, _progress(options.images) as told:
            result = run_streams(
                trial.server,
                truth,
                images=options.images,
                connections=options.connections,
                unread=options.unread,
                seconds=options.seconds,
                clients=clients,
                progress=told,
            )
        judge_streams(result, report, images=options.images)
        report.demand("left behind", trial.leavings.count, limit=0)
        report.figures["left"] = vars(trial.leavings)
    return _end(report, options)


def _report(scenario: str, options: SoakOptions) -> Report:
    return Report(scenario=scenario, options=dataclasses.asdict(options))


def _end(report: Report, options: SoakOptions) -> int:
    report.print(console)
    if options.out is not None:
        console.print(f"Report: {report.save(options.out)}")
    return 0 if report.met else 1


@contextmanager
def _repository(options: SoakOptions, networks: Sequence[Network]) -> Iterator[Path]:
    """The one that is given, or a temporary one."""
    if options.repository is not None:
        yield options.repository
        return
    with tempfile.TemporaryDirectory(prefix="ganvas-soak-") as scratch:
        for network in networks:
            console.print(f"Exporting {network.name} of random weights …")
            export_version(network, Path(scratch))
        yield Path(scratch)


@contextmanager
def _progress(total: float) -> Iterator[Callable[[float, str], None]]:
    """A bar that is told how far the run is, and a few words."""
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda done, text: bar.update(task, completed=done, description=text)


if __name__ == "__main__":
    run_verbs(mixed, overload, streams, swaps, fuzz)
