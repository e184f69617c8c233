"""The training loop, the same for every family: take a step, now and then look at it, draw, measure and save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.config import TrainConfig
from training.device import exact_kernels, resolve_device
from training.run.checkpoint import read_info
from training.run.curves import Curves
from training.run.distributed import Processes
from training.run.folder import EXAMPLES_NAME, locked
from training.run.health import Divergence
from training.run.memory import explain_memory_error
from training.run.report import StepReport
from training.run.run import Run
from training.run.samples import write_examples

__all__ = ["Outcome", "train"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of train() ended."""

    finished: bool
    """False: it was asked to stop, and saved where it was."""
    kimg: float
    best_kimg: float | None
    """Of OUT/checkpoint; None: nothing is saved yet."""
    metrics: dict[str, float]
    """Of OUT/checkpoint, measured on held-out images."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume_at: Path | None = None,
    processes: Processes | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train in a run folder, from its newest checkpoint where it has one, until the budget is spent or should_stop.

    A resumed run ends in the same weights, bit for bit, as one that never stopped, on the same device. A run that
    diverges is taken back to its newest checkpoint once, with half the learning rate.

    Args:
        folder: made by run.folder.create.
        resume_at: a kept checkpoint to continue from instead; newer ones are deleted.
        processes: those that share the run, started by torchrun.
        on_step: called after each step; first with the step it starts from.
        say: told what the user should know, a line or more at a time.
    Raises:
        DivergedError: the run diverged for the second time. What was saved before stays.
        CheckpointError: a checkpoint is damaged, or cannot be written.
        OutOfMemoryError: says what to lower.
        UsageError: the data set does not fit the network, or another process trains in the folder.
        OSError: I/O or permission error.
    """
    processes = processes or Processes()
    device = resolve_device(config.device)
    try:
        with (
            exact_kernels(config.threads),
            locked(folder, by=processes),
            Curves(folder, config, processes) as curves,
            Run(config, folder, device=device, processes=processes, curves=curves, say=say) as run,
        ):
            run.start(resume_at)
            if processes.is_first:
                write_examples(folder / EXAMPLES_NAME, run.split.train)
            on_step(StepReport(step=run.step))
            return _advance(run, on_step, should_stop)
    except (RuntimeError, MemoryError) as error:
        if explained := explain_memory_error(error, config, device=device):
            raise explained from error
        raise


def _advance(run: Run, on_step: Callable[[StepReport], None], should_stop: Callable[[], bool]) -> Outcome:
    """Steps until the last one is saved, or until should_stop."""
    config, processes = run.config, run.processes
    while not run.is_finished():
        if processes.any([should_stop()], run.device)[0]:
            run.save_and_stop()
            return _outcome(run, finished=False)
        try:
            report = run.advance()
            if run.is_due(config.save_kimg):
                run.save()
            if run.is_due(config.samples_kimg):
                run.draw()
        except Divergence as divergence:
            run.take_back(divergence)
            continue
        on_step(report)
    return _outcome(run, finished=True)


def _outcome(run: Run, *, finished: bool) -> Outcome:
    best = run.checkpoints.best()
    info = read_info(best) if best else None
    return Outcome(
        finished=finished,
        kimg=run.kimg,
        best_kimg=info.kimg if info else None,
        metrics=info.metrics if info else {},
    )
