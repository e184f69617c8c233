"""The verb `train`."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from training.checkpoint import CheckpointError
from training.loop import DivergedError, Outcome, train
from training.options import OptionError, new_config, resume_config
from training.presets import PRESETS, GanConfig, VaeConfig
from training.progress import TrainingProgress
from training.run_folder import CHECKPOINT_NAME, SAMPLES_NAME, RunFolderError, create

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def stage() -> None:
    """Training: from a preset to a checkpoint folder."""


THE_PRESETS = "the preset's"

PresetArgument = Annotated[str, typer.Argument(help=f"What to train: {', '.join(PRESETS)}.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Run folder.", show_default="out/PRESET", envvar="GANVAS_TRAIN_OUT")
]
SeedOption = Annotated[
    int | None, typer.Option(help="Fixes the whole run: same seed, same machine, same weights.", show_default="0")
]
KimgOption = Annotated[float | None, typer.Option(help="Thousands of images to train on.", show_default=THE_PRESETS)]
BatchSizeOption = Annotated[int | None, typer.Option(help="Images per step.", show_default=THE_PRESETS)]
LearningRateOption = Annotated[
    float | None, typer.Option(help="Of Adam; in a GAN, the generator's.", show_default=THE_PRESETS)
]
LossOption = Annotated[
    str | None, typer.Option(help="GAN only: non-saturating or hinge.", show_default="non-saturating")
]
R1GammaOption = Annotated[float | None, typer.Option(help="GAN only: gradient penalty.", show_default=THE_PRESETS)]
BetaOption = Annotated[float | None, typer.Option(help="VAE only: KL weight.", show_default=THE_PRESETS)]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="fp32, or bf16 where the CPU has it: faster.", show_default="fp32", envvar="GANVAS_TRAIN_PRECISION"
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(help="PyTorch's compute threads.", show_default="1", envvar="GANVAS_TRAIN_THREADS")
]
SaveOption = Annotated[float | None, typer.Option(help="Save every so many kimg.", show_default=THE_PRESETS)]
SamplesOption = Annotated[float | None, typer.Option(help="Draw samples every so many kimg.", show_default=THE_PRESETS)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, with its own options.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the run in OUT.")]


@app.command("train")
def train_command(
    preset: PresetArgument,
    out: OutOption = None,
    seed: SeedOption = None,
    kimg: KimgOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    loss: LossOption = None,
    r1_gamma: R1GammaOption = None,
    beta: BetaOption = None,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    save_kimg: SaveOption = None,
    samples_kimg: SamplesOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a preset and write OUT/checkpoint, which `ganvas export` reads.

    Ctrl-C saves; --resume goes on from there and ends in the same weights as an uninterrupted run.

    Example: ganvas train digits-gan --out out/digits-gan --seed 7
    """
    options = {
        "seed": seed,
        "total_kimg": kimg,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "loss": loss,
        "r1_gamma": r1_gamma,
        "beta": beta,
        "precision": precision,
        "threads": threads,
        "save_kimg": save_kimg,
        "samples_kimg": samples_kimg,
    }
    folder = out or Path("out") / preset
    config = _prepare(preset, folder, options, resume=resume, overwrite=overwrite)
    _run(config, folder)


def _prepare(
    preset: str, folder: Path, options: dict[str, Any], *, resume: bool, overwrite: bool
) -> GanConfig | VaeConfig:
    """Resolve the options and make the run folder ready, or end with what is wrong."""
    given = {field: value for field, value in options.items() if value is not None}
    try:
        if resume and overwrite:
            raise OptionError("--resume and --overwrite exclude each other.")
        if resume:
            return resume_config(preset, folder, given)
        config = new_config(preset, given)
        create(folder, config, overwrite=overwrite)
    except (OptionError, RunFolderError) as error:
        _fail(str(error), code=2)
    except OSError as error:
        _fail(f"--out: cannot write {error.filename or folder}: {error.strerror}.", code=1)
    return config


def _run(config: GanConfig | VaeConfig, folder: Path) -> None:
    """Train, show progress, and say how it ended."""
    console = Console()
    console.print(_summary(config), highlight=False, soft_wrap=True)
    go_on = f"ganvas train {config.preset} --out {folder} --resume"
    start_s = time.monotonic()
    try:
        with _stop_requests() as stopped, TrainingProgress(config, console) as progress:
            outcome = train(config, folder, on_step=progress.on_step, should_stop=lambda: bool(stopped))
    except KeyboardInterrupt:
        _fail(f"stopped at once. What was saved before is whole; go on with: {go_on}", code=130)
    except (CheckpointError, DivergedError) as error:
        _fail(str(error), code=1)
    except OSError as error:
        _fail(
            f"cannot write {error.filename or folder}: {error.strerror}. What was saved before is whole: {go_on}",
            code=1,
        )
    if not outcome.finished:
        _fail(
            f"stopped at {outcome.kimg:.1f} of {config.total_kimg:g} kimg and saved. Go on with: {go_on}",
            code=128 + stopped[0],
        )
    _report(outcome, folder, time.monotonic() - start_s, console)


def _summary(config: GanConfig | VaeConfig) -> str:
    """The resolved options on a few lines."""
    options = dataclasses.asdict(config)
    network = ", ".join(f"{name} {value}" for name, value in options.pop("network").items())
    rest = ", ".join(f"{name} {value}" for name, value in options.items() if name not in ("preset", "family"))
    return f"train {config.preset} ({config.family})\n  {rest}\n  network: {network}"


def _report(outcome: Outcome, folder: Path, elapsed_s: float, console: Console) -> None:
    measures = ", ".join(f"{name} {value:g}" for name, value in outcome.metrics.items())
    lines = [
        f"trained to {outcome.kimg:.1f} kimg in {elapsed_s:.1f} s",
        f"  {measures}",
        f"  samples     {folder / SAMPLES_NAME}",
        f"  checkpoint  {folder / CHECKPOINT_NAME}",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills when SIGINT or SIGTERM asks for an orderly stop; a second Ctrl-C stops at once."""
    requests: list[int] = []

    def request(number: int, _frame: FrameType | None) -> None:
        requests.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(message: str, *, code: int) -> NoReturn:
    print(f"train: {message}", file=sys.stderr)
    raise typer.Exit(code)
