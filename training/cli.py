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


@app.command("train")
def train_command(
    preset: Annotated[str, typer.Argument(help=f"What to train: {', '.join(PRESETS)}.")],
    out: Annotated[
        Path | None, typer.Option(help="Run folder.", show_default="out/PRESET", envvar="GANVAS_TRAIN_OUT")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Fixes the whole run: same seed, same machine, same weights.", show_default="0")
    ] = None,
    kimg: Annotated[
        float | None, typer.Option(help="Thousands of images to train on.", show_default="the preset's")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.", show_default="the preset's")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of Adam; a GAN's generator.", show_default="the preset's")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="GAN only: non-saturating or hinge.", show_default="non-saturating")
    ] = None,
    r1_gamma: Annotated[
        float | None, typer.Option(help="GAN only: gradient penalty.", show_default="the preset's")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="VAE only: KL weight.", show_default="the preset's")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, bf16, or auto: bf16 where this CPU has it.", envvar="GANVAS_TRAIN_PRECISION"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="PyTorch's compute threads.", show_default="2", envvar="GANVAS_TRAIN_THREADS")
    ] = None,
    save_kimg: Annotated[
        float | None, typer.Option(help="Save every so many kimg.", show_default="the preset's")
    ] = None,
    samples_kimg: Annotated[
        float | None, typer.Option(help="Draw samples every so many kimg.", show_default="the preset's")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, with its own options.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in OUT.")] = False,
) -> None:
    """Train a preset and write OUT/checkpoint, which `ganvas export` reads.

    Ctrl-C saves; --resume goes on from there and ends in the same weights as an uninterrupted run.

    Example: ganvas train digits-gan --out out/digits-gan --seed 7
    """
    given = _given(
        seed=seed,
        total_kimg=kimg,
        batch_size=batch_size,
        learning_rate=learning_rate,
        loss=loss,
        r1_gamma=r1_gamma,
        beta=beta,
        precision=None if precision == "auto" else precision,
        threads=threads,
        save_kimg=save_kimg,
        samples_kimg=samples_kimg,
    )
    folder = out or Path("out") / preset
    try:
        if resume and overwrite:
            raise OptionError("--resume and --overwrite exclude each other.")
        config = resume_config(preset, folder, given) if resume else new_config(preset, given)
        if not resume:
            create(folder, config, overwrite=overwrite)
    except (OptionError, RunFolderError) as error:
        _fail(str(error), code=2)
    except OSError as error:
        _fail(f"--out: cannot write {error.filename or folder}: {error.strerror}.", code=1)
    _run(config, folder)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


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
        _fail(f"{error} To go on: {go_on}" if isinstance(error, CheckpointError) else str(error), code=1)
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
