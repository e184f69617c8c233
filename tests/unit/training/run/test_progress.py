from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.support.training import tiny_config
from training.run.progress import TrainingProgress
from training.run.report import StepReport


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_losses_kimg_and_speed(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # on a dumb terminal there is no bar
    shown = io.StringIO()
    config = tiny_config("dcgan")
    with TrainingProgress(config, Console(file=shown, force_terminal=terminal, width=160)) as progress:
        progress.on_step(StepReport(step=0))
        for step in range(1, config.num_steps + 1):
            progress.on_step(StepReport(step=step, losses={"D": 1.25, "G": 0.5}, step_s=0.02, loader_s=0.001))
    for part in ("digits-gan", "0.2/0.2 kimg", "img/s", "20+1 ms a step+loading", "0:00 left", "D 1.25", "G 0.5"):
        assert part in shown.getvalue()


def test_progress_prints_at_most_twenty_lines_to_a_log() -> None:
    shown = io.StringIO()
    config = tiny_config("vae", total_kimg=10.0)
    with TrainingProgress(config, Console(file=shown, force_terminal=False)) as progress:
        for step in range(300, config.num_steps + 1):
            progress.on_step(StepReport(step=step, losses={"KL": 1.0} if step > 300 else {}))
    lines = shown.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[-1].startswith("digits-vae  10.0/10.0 kimg")
