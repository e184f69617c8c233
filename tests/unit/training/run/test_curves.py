from __future__ import annotations

import builtins
import json
import resource
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tests.support.training import tiny_config
from training.loop import train
from training.run.curves import Curves, read_curves
from training.run.distributed import Processes
from training.run.folder import create
from training.run.report import StepReport


def test_curves_hold_the_mean_of_each_loss_where_it_was_computed(tmp_path: Path) -> None:
    """A lazy penalty is there in one step of four: its mean is over those."""
    config = tiny_config("dcgan", total_kimg=64.0, tensorboard=False)  # 4,000 steps: a line every 4
    with Curves(tmp_path, config, Processes()) as curves:
        for step in range(1, 9):
            losses = {"D": float(step)} | ({"R1": 10.0} if step % 4 == 1 else {})
            curves.on_step(StepReport(step=step, losses=losses, step_s=0.02, loader_s=0.005))
        curves.metrics(8, {"coverage": 0.5})
        curves.rollback(4, "the D loss is nan")
    speed = {"images_per_s": 640.0, "step_ms": 20.0, "loader_ms": 5.0}
    assert read_curves(tmp_path / "curves.jsonl") == [
        {"step": 4, "kimg": 0.064, "losses": {"D": 2.5, "R1": 10.0}, **speed},
        {"step": 8, "kimg": 0.128, "losses": {"D": 6.5, "R1": 10.0}, **speed},
        {"step": 8, "kimg": 0.128, "metrics": {"coverage": 0.5}},
        {"step": 4, "kimg": 0.064, "event": "rollback", "reason": "the D loss is nan"},
    ]


def test_curves_forget_what_lies_beyond_the_step_that_a_run_continues_from(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "losses": {}}) for step in (1, 2, 3)]
    (tmp_path / "curves.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "los')  # killed in the middle of a line
    with Curves(tmp_path, tiny_config("dcgan", tensorboard=False), Processes()) as curves:
        curves.start_at(2)
    assert [line["step"] for line in read_curves(tmp_path / "curves.jsonl")] == [1, 2]


def test_run_logs_losses_penalties_metrics_and_images_to_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny_config("dcgan")
    create(tmp_path, config, overwrite=False)
    train(config, tmp_path)
    logs = EventAccumulator(str(tmp_path / "tensorboard"))
    logs.Reload()
    assert {"loss/D", "loss/G", "loss/R1", "loss/R2", "speed/images_per_s", "metrics/diversity"} <= set(
        logs.Tags()["scalars"]
    )
    assert logs.Tags()["images"] == ["samples"]
    lines = read_curves(tmp_path / "curves.jsonl")
    drawn = [event.value for event in logs.Scalars("loss/D")]
    assert np.allclose(drawn, [line["losses"]["D"] for line in lines if "losses" in line], rtol=1e-6)


def test_run_works_without_tensorboard(tmp_path: Path) -> None:
    importing = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
        return importing(name, *arguments, **options)

    config = tiny_config("vae")
    create(tmp_path, config, overwrite=False)
    with mock.patch.object(builtins, "__import__", without):
        assert train(config, tmp_path).finished
    assert not (tmp_path / "tensorboard").exists()
    assert read_curves(tmp_path / "curves.jsonl")


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_alone_writes(tmp_path: Path, rank: int) -> None:
    with Curves(tmp_path, tiny_config("dcgan"), Processes(rank, 2)) as curves:
        curves.start_at(0)
        curves.metrics(1, {"coverage": 0.5})
        curves.image(1, "samples", np.zeros((8, 8, 3), np.uint8))
    assert bool(list(tmp_path.iterdir())) == (rank == 0)


def test_full_disk_under_tensorboards_log_is_an_error_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="too large"), Curves(tmp_path, tiny_config("dcgan"), Processes()) as curves:
            curves.image(1, "samples", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr().err == ""
