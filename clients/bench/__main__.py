"""`python -m clients.bench bench …`, which `./ganvas bench` runs: how fast images come, and what limits it."""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from clients.bench.cold import measure_cold_start
from clients.bench.compare import compare_results, print_differences
from clients.bench.environment import environment
from clients.bench.loadgen.scenarios import measure_scenarios
from clients.bench.options import BenchOptions, CompareOptions
from clients.bench.peers import PEERS, Peer, running_peer
from clients.bench.perf_analyzer import second_opinion
from clients.bench.report import print_result, save_report
from clients.bench.result import FORMAT, Result, SubjectResult, read_result
from clients.bench.session import Progress, measure_subject
from clients.bench.subject import Subject, given_subject, local_subject, newest_version
from clients.local_server import local_server
from clients.networks import DCGAN64, SERIES, SERIES_FOLDER, Network, export_version, network_of
from ganvas_core.cli import UsageError, changed_options, run_verbs
from ganvas_core.names import FP32_FILE

WIDTH_WITHOUT_TERMINAL = 140
NUM_PARITY_SEEDS = 8
"""Of networks of random weights, so that their proof does not take longer than their measurement."""

console = Console()
if not console.is_terminal:
    console = Console(width=WIDTH_WITHOUT_TERMINAL)


def bench(options: BenchOptions) -> None:
    """Measure a server: against bare ONNX Runtime, by concurrency, by rate, by MLPerf's scenarios.

    Without a model, a 64x64x3 DCGAN generator of random weights is exported and served. `./ganvas bench compare A B`
    says which differences between two reports are real. docs/benchmarking.md: how to measure honestly.

    Example: ./ganvas bench --rounds 5 --out benchmarks/results
    """
    result = Result(
        format=FORMAT,
        command=" ".join(["./ganvas bench", *changed_options(options)]),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment=environment(),
        options=TypeAdapter(BenchOptions).dump_python(options, mode="json", exclude={"api_key"}),
        subjects=[],
    )
    with _progress() as progress:
        for model in options.models:
            if result.is_interrupted:
                break
            if options.is_remote:
                result.subjects.append(_measure(given_subject(options, model), options, progress))
            elif options.repository is not None:
                result.subjects.append(_serve(options, options.repository, model, options.checkpoint, progress))
            else:
                raise UsageError("--model needs --repository to serve it from, or --address of a server that runs.")
        if options.is_remote and not options.models:
            raise UsageError("--model is missing: what the server is asked for.")
        if not options.models:
            for network in _networks(options):
                if result.is_interrupted:
                    break
                result.subjects.append(_export_and_serve(options, network, progress))
    print_result(result, console)
    if options.out is not None:
        console.print(f"Report: {save_report(result, options.out)}", soft_wrap=True)


def compare(options: CompareOptions) -> None:
    """Say which differences between two reports of `./ganvas bench` are real.

    Example: ./ganvas bench compare before.json after.json
    """
    print_differences(compare_results(read_result(options.a), read_result(options.b)), console)


def _networks(options: BenchOptions) -> list[Network]:
    series = [SERIES_FOLDER / f"{name}.toml" for name in SERIES] if options.series else []
    return [network_of(path) for path in [*series, *options.network]] or [DCGAN64]


def _export_and_serve(options: BenchOptions, network: Network, progress: Progress) -> SubjectResult:
    with tempfile.TemporaryDirectory(prefix="ganvas-bench-") as scratch:
        repository, checkpoint = Path(scratch) / "model_repository", Path(scratch) / "checkpoint"
        progress(0, 1, f"exporting {network.name}")
        arguments = ["--threads", str(options.threads), "--instances", str(options.instances), "--precision", "fp32"]
        arguments += ["--num-parity-seeds", str(NUM_PARITY_SEEDS)]
        export_version(network, repository, checkpoint=checkpoint, arguments=arguments)
        return _serve(options, repository, network.name, checkpoint, progress)


def _serve(
    options: BenchOptions, repository: Path, model: str, checkpoint: Path | None, progress: Progress
) -> SubjectResult:
    with ExitStack() as stack:
        server = stack.enter_context(local_server(repository, arguments=options.serve))
        file = newest_version(repository, model) / FP32_FILE
        peers: dict[str, Peer] = {}
        for name in PEERS:
            if name in options.targets:
                progress(0, 1, f"starting {name}")
                peers[name] = stack.enter_context(running_peer(name, file, threads=options.threads))
        subject = local_subject(options, repository, model, server, checkpoint=checkpoint, peers=peers)
        result = _measure(subject, options, progress)
    if "cold" in options.scenarios and not result.is_interrupted:
        progress(0, 1, "a cold start")
        result.cold = measure_cold_start(repository, model, arguments=options.serve)
    return result


def _measure(subject: Subject, options: BenchOptions, progress: Progress) -> SubjectResult:
    def told(done: int, total: int, text: str) -> None:
        progress(done, total, f"{subject.model}: {text}")

    result = measure_subject(subject, options, progress=told)
    if result.is_interrupted:
        return result
    if "loadgen" in options.scenarios:
        result.scenarios = measure_scenarios(subject, options, result, progress=told)
    if "perf_analyzer" in options.scenarios:
        result.opinions = second_opinion(subject, options, result, progress=told)
    return result


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar that is told how far the run is."""
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


if __name__ == "__main__":
    # `bench compare` is a verb of its own.
    given = sys.argv[1:]
    run_verbs(bench, compare, arguments=given[1:] if given[:2] == ["bench", "compare"] else given)
