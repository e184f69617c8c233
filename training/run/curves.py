"""The curves of a run: OUT/curves.jsonl for the evaluation report, and the same for TensorBoard.

    {"step", "kimg", "losses": {name: mean since the last line}, "images_per_s", "step_ms", "loader_ms"}
    {"step", "kimg", "metrics": {name: value}}                     where a checkpoint was measured
    {"step", "kimg", "event": "rollback", "reason"}

A run that is taken back to an earlier step, by --resume or after it diverged, loses the lines beyond that step.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganvas_core.files import write_atomic
from training.config import TrainConfig
from training.run.distributed import Processes
from training.run.report import StepReport

__all__ = ["CURVES_NAME", "TENSORBOARD_NAME", "Curves", "read_curves"]

CURVES_NAME = "curves.jsonl"
TENSORBOARD_NAME = "tensorboard"
NUM_LINES = 1000
"""Lines of losses in a whole run, at most."""


class Curves:
    """Writes both, in the first process; a context manager."""

    def __init__(self, run: Path, config: TrainConfig, processes: Processes) -> None:
        self.config = config
        self.is_on = processes.is_first
        self.path = run / CURVES_NAME
        self._interval = -(-config.num_steps // NUM_LINES)
        self._pending: list[StepReport] = []
        self._tensorboard = _tensorboard_writer(run / TENSORBOARD_NAME) if config.tensorboard and self.is_on else None

    def __enter__(self) -> Curves:
        self._excepthook = threading.excepthook
        threading.excepthook = self._on_thread_error
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._tensorboard is not None:
                self._tensorboard.close()
        finally:
            threading.excepthook = self._excepthook

    def _on_thread_error(self, error: threading.ExceptHookArgs) -> None:
        """Keep quiet on a full disk: TensorBoard raises what ended its thread again, at the next call."""
        if not issubclass(error.exc_type, OSError):
            self._excepthook(error)

    def start_at(self, step: int) -> None:
        """Forget what lies beyond `step`."""
        self._pending.clear()
        if self.is_on and self.path.exists():
            lines = [line for line in read_curves(self.path) if line["step"] <= step]
            write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def on_step(self, report: StepReport) -> None:
        self._pending.append(report)
        if report.step % self._interval and report.step != self.config.num_steps:
            return
        totals: dict[str, list[float]] = defaultdict(list)
        for one in self._pending:
            for name, value in one.losses.items():
                totals[name].append(value)
        step_s, loader_s = (sum(getattr(one, name) for one in self._pending) for name in ("step_s", "loader_s"))
        num_steps = len(self._pending)
        losses = {name: sum(values) / len(values) for name, values in totals.items()}
        figures = {
            "images_per_s": num_steps * self.config.batch_size / max(step_s + loader_s, 1e-9),
            "step_ms": 1000 * step_s / num_steps,
            "loader_ms": 1000 * loader_s / num_steps,
        }
        self._write(report.step, {"losses": losses} | {name: round(value, 3) for name, value in figures.items()})
        self._scalars(report.step, {f"loss/{name}": value for name, value in losses.items()})
        self._scalars(report.step, {f"speed/{name}": value for name, value in figures.items()})
        self._pending.clear()

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """What a checkpoint measured."""
        self._write(step, {"metrics": dict(metrics)})
        self._scalars(step, {f"metrics/{name}": value for name, value in metrics.items()})

    def rollback(self, step: int, reason: str) -> None:
        """The run diverged and goes on from `step`."""
        self._write(step, {"event": "rollback", "reason": reason})

    def image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """pixels: [H, W, C]."""
        if self._tensorboard is not None:
            self._tensorboard.add_image(name, pixels, step, dataformats="HWC")

    def _write(self, step: int, record: Mapping[str, Any]) -> None:
        if not self.is_on:
            return
        line = {"step": step, "kimg": self.config.kimg(step), **record}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)


def read_curves(path: Path) -> list[dict[str, Any]]:
    """Every whole line of curves.jsonl: a process that was killed may have left half of the last one."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(dict(json.loads(text)))
        except ValueError:
            continue
    return lines


def _tensorboard_writer(folder: Path) -> Any | None:
    """None where the extra is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
