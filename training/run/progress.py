"""Progress of a training run: a bar in a terminal, twenty lines in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from training.config import TrainConfig

__all__ = ["TrainingProgress"]

SMOOTHING = 0.98
"""Weight of the past in the moving average of the losses shown."""


class TrainingProgress:
    """Losses, kimg and images per second; a context manager whose `on_step` the training loop calls."""

    def __init__(self, config: TrainConfig, console: Console) -> None:
        self.config = config
        self.console = console
        self._losses: dict[str, float] = {}
        self._start_step: int | None = None
        self._start_s = 0.0
        self._lines_printed = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task: TaskID = self._bar.add_task(config.preset, total=config.num_steps, status="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_step(self, step: int, losses: dict[str, float]) -> None:
        """Show that `step` steps are done. The first call, with no losses, says where the run starts from."""
        if self._start_step is None:
            self._start_step, self._start_s = step, time.monotonic()
            self._lines_printed = self._twentieths(step)
        for name, value in losses.items():
            self._losses[name] = SMOOTHING * self._losses.get(name, value) + (1 - SMOOTHING) * value
        parts = [f"{self.config.kimg(step):.1f}/{self.config.kimg(self.config.num_steps):.1f} kimg"]
        elapsed_s = time.monotonic() - self._start_s
        if step > self._start_step and elapsed_s > 0:
            parts.append(f"{(step - self._start_step) * self.config.batch_size / elapsed_s:.0f} img/s")
        status = "  ".join([*parts, *(f"{name} {value:.3g}" for name, value in self._losses.items())])
        self._bar.update(self._task, completed=step, status=status)
        if not self.console.is_terminal and self._twentieths(step) > self._lines_printed:
            self._lines_printed = self._twentieths(step)
            self.console.print(f"{self.config.preset}  {status}", highlight=False, soft_wrap=True)

    def _twentieths(self, step: int) -> int:
        return 20 * step // self.config.num_steps
