"""`python -m clients.bench bench …`, which `./ganvas bench` runs: how fast images come, and what limits it."""

from __future__ import annotations

import datetime
import signal
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
from clients.bench.here import elsewhere
from clients.bench.loadgen.scenarios import measure_scenarios
from clients.bench.options import BenchOptions, CompareOptions
from clients.bench.peers import PEERS, Peer, running_peer
from clients.bench.perf_analyzer import find_perf_analyzer, second_opinion
from clients.bench.report import check_folder, print_result, save_report
from clients.bench.result import FORMAT, Result, SubjectResult, read_result
from clients.bench.server_use import check_metrics
from clients.bench.session import Progress, kept, measure_subject
from clients.bench.subject import Subject, given_subject, local_subject, newest_version
from clients.bench.targets import WrongAnswerError
from clients.local_server import LocalServerError, local_server
from clients.networks import DCGAN64, SERIES, SERIES_FOLDER, Network, export_version, network_of
from ganvas_core.cli import UsageError, UserError, changed_options, run_verbs
from ganvas_core.names import FP32_FILE

WIDTH_WITHOUT_TERMINAL = 140
NUM_PARITY_SEEDS = 8
"""Of networks of random weights, so that their proof does not take longer than their measurement."""

console = Console()
if not console.is_terminal:
    console = Console(width=WIDTH_WITHOUT_TERMINAL)


def bench(options: BenchOptions) -> None:
    """Measure a server: against bare ONNX Runtime, by concurrency, by rate, by MLPerf's scenarios.

    Without a model, a 64x64x3 DCGAN generator of random weights is exported and served. `./ganvas bench compare
    A.json B.json` says which differences between two reports are real. docs/benchmarking.md: how to measure honestly.

    A gateway's key is read from GANVAS_API_KEY.

    Example: ./ganvas bench --rounds 5 --out benchmarks/results
    """
    _check(options)
    result = Result(
        format=FORMAT,
        command=" ".join(["./ganvas bench", *changed_options(options)]),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment=environment(),
        options=TypeAdapter(BenchOptions).dump_python(options, mode="json", exclude={"api_key"}),
        subjects=[],
        elsewhere=elsewhere(options.server) if options.server else "",
    )
    with _progress() as progress:
        stopped = _collect(result, _subjects(options, progress))
    print_result(result, console)
    if options.out is not None:
        saved = save_report(result, options.out)
        console.print(f"Report: {saved.with_suffix('.html')} to look at, {saved.name}", soft_wrap=True)
        console.print(f"For ./ganvas bench compare: {saved.with_suffix('.json')}", soft_wrap=True)
    for subject in result.subjects:
        if subject.failure:
            raise UserError(f"{subject.failure} What was measured before is shown.")
    if stopped is not None:
        raise stopped


def compare(options: CompareOptions) -> None:
    """Say which differences between two reports of `./ganvas bench` are real.

    Example: ./ganvas bench compare before.json after.json
    """
    print_differences(compare_results(read_result(options.a), read_result(options.b)), console)


def _check(options: BenchOptions) -> None:
    """See that what the options name is there, before minutes go into the measurement.

    Raises:
        UserError: it is not.
    """
    if options.is_remote and not options.models:
        raise UsageError("--model is missing: what the server is asked for.")
    if options.is_remote:
        options.credentials()
    if options.models and not options.is_remote and options.repository is None:
        raise UsageError("--model needs --repository to serve it from, or --address of a server that runs.")
    for model in options.models:
        if options.repository is not None:
            newest_version(options.repository, model)
    if options.checkpoint is not None and not options.checkpoint.is_dir():
        raise UsageError(f"--checkpoint {options.checkpoint} is no folder. Give the one that --model came from.")
    if options.metrics is not None:
        check_metrics(options.metrics)
    if "perf_analyzer" in options.scenarios:
        find_perf_analyzer()
    if options.out is not None:
        check_folder(options.out)


def _subjects(options: BenchOptions, progress: Progress) -> Iterator[SubjectResult]:
    """Each model, measured when its turn comes."""
    for model in options.models:
        if options.is_remote:
            yield _measure(given_subject(options, model), options, progress)
        elif options.repository is not None:
            yield _serve(options, options.repository, model, options.checkpoint, progress)
    for network in [] if options.models else _networks(options):
        yield _export_and_serve(options, network, progress)


def _collect(result: Result, subjects: Iterator[SubjectResult]) -> BaseException | None:
    """Put the models into the result. Gives what stopped it: a long run is not to lose those that are done.

    Raises:
        WrongAnswerError: a target answers wrongly; nothing is reported then.
    """
    try:
        for subject in subjects:
            result.subjects.append(subject)
            if subject.is_interrupted:
                return KeyboardInterrupt()
    except (KeyboardInterrupt, UserError) as error:
        if isinstance(error, WrongAnswerError) or not result.subjects:
            raise
        result.subjects[-1].notes.append(f"the models after this one were not measured: {str(error) or 'interrupted'}")
        return error
    return None


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
    result: SubjectResult | None = None
    options = options.of_own_server()
    try:
        with ExitStack() as stack:
            opened = ["--triton-statistics"] if "perf_analyzer" in options.scenarios else []
            server = stack.enter_context(local_server(repository, arguments=[*options.serve, *opened]))
            file = newest_version(repository, model) / FP32_FILE
            peers: dict[str, Peer] = {}
            for name in PEERS:
                if name in options.targets:
                    progress(0, 1, f"starting {name}")
                    peers[name] = stack.enter_context(running_peer(name, file, threads=options.threads))
            subject = local_subject(options, repository, model, server, checkpoint=checkpoint, peers=peers)
            result = _measure(subject, options, progress)
    except LocalServerError as error:  # it died, or did not stop: what was measured of it stays
        if result is None or result.is_empty:
            raise
        result.fail(_in_one_line(error))
    if "cold" in options.scenarios and not result.is_interrupted:
        progress(0, 1, "a cold start")
        with kept(result, "cold start"):
            result.cold = measure_cold_start(repository, model, options)
    return result


def _in_one_line(error: LocalServerError) -> str:
    """What happened, and the last line of the server's log."""
    what, *log = str(error).splitlines()
    return f"{what.rstrip(':.')}. Its log ends with: {log[-1].rstrip('.')}." if log else what


def _measure(subject: Subject, options: BenchOptions, progress: Progress) -> SubjectResult:
    def told(done: int, total: int, text: str) -> None:
        progress(done, total, f"{subject.model}: {text}")

    result = measure_subject(subject, options, progress=told)
    if result.is_interrupted:
        return result
    if "loadgen" in options.scenarios:
        with kept(result, "loadgen"):
            measure_scenarios(subject, options, result, progress=told)
    if "perf_analyzer" in options.scenarios and not result.is_interrupted:
        with kept(result, "perf_analyzer"):
            second_opinion(subject, options, result, progress=told)
    return result


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar that is told how far the run is."""
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


if __name__ == "__main__":
    # As Ctrl-C: what was measured is kept, and what was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # `bench compare` is a verb of its own.
    if sys.argv[1:3] == ["bench", "compare"]:
        run_verbs(compare, arguments=sys.argv[2:], program="./ganvas bench")
    run_verbs(bench)
