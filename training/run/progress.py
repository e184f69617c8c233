"""Progress of a training run: a bar in a terminal, twenty lines in a log."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from training.config import TrainConfig
from training.run.report import StepReport

__all__ = ["TrainingProgress"]

SMOOTHING = 0.98
"""Weight of the past in the moving average of the losses shown."""
WINDOW_S = 30.0
"""Speed and remaining time are those of the last so many seconds, saving and measuring included."""


class TrainingProgress:
    """kimg, images per second, time of the loader and of the step, remaining time and losses.

    A context manager whose `on_step` the training loop calls.
    """

    def __init__(self, config: TrainConfig, console: Console) -> None:
        self.config = config
        self.console = console
        self._losses: dict[str, float] = {}
        self._recent: deque[tuple[float, StepReport]] = deque()
        self._lines_printed: int | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}"),
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

    def say(self, text: str) -> None:
        """Print above the bar what the user should know."""
        self._bar.console.print(text, highlight=False, soft_wrap=True)

    def on_step(self, report: StepReport) -> None:
        """Show that `report.step` steps are done. The first call, with no losses, says where the run starts from."""
        step, config = report.step, self.config
        if self._lines_printed is None or step < self._recent[-1][1].step:  # the start, or taken back
            self._lines_printed = self._twentieths(step)
            self._recent.clear()
        self._recent.append((time.monotonic(), report))
        while self._recent[-1][0] - self._recent[0][0] > WINDOW_S and len(self._recent) > 2:
            self._recent.popleft()
        for name, value in report.losses.items():
            self._losses[name] = SMOOTHING * self._losses.get(name, value) + (1 - SMOOTHING) * value
        status = "  ".join(
            [
                f"{config.kimg(step):.1f}/{config.kimg(config.num_steps):.1f} kimg",
                *self._speed(step),
                *(f"{name} {value:.3g}" for name, value in self._losses.items()),
            ]
        )
        self._bar.update(self._task, completed=step, status=status)
        if not self.console.is_terminal and self._twentieths(step) > self._lines_printed:
            self._lines_printed = self._twentieths(step)
            self.console.print(f"{config.preset}  {status}", highlight=False, soft_wrap=True)

    def _speed(self, step: int) -> list[str]:
        """`420 img/s`, `76 ms/step`, `0.2 ms loading`, `1:05 left`; nothing before the first step."""
        (start_s, first), (now_s, last) = self._recent[0], self._recent[-1]
        num_steps = last.step - first.step
        if num_steps == 0 or now_s <= start_s:
            return []
        per_step_s = (now_s - start_s) / num_steps
        step_ms, loader_ms = (
            1000 * sum(getattr(report, name) for _, report in self._recent) / num_steps
            for name in ("step_s", "loader_s")
        )
        left_s = round(per_step_s * (self.config.num_steps - step))
        hours, minutes, seconds = left_s // 3600, left_s // 60 % 60, left_s % 60
        left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        speed = f"{self.config.batch_size / per_step_s:.0f} img/s"
        return [speed, f"{_short(step_ms)}+{_short(loader_ms)} ms a step+loading", f"{left} left"]

    def _twentieths(self, step: int) -> int:
        return 20 * step // self.config.num_steps


def _short(value: float) -> str:
    """Three digits, or as many as stand before the point: 0.68, 12.3, 1620."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
