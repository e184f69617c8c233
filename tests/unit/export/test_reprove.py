"""A published version against its checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.reprove import main
from tests.support.certificates import without_golden_posteriors
from tests.unit.export.conftest import Exported


def test_reprove_passes_the_checkpoint_that_a_version_came_from(
    vae: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(vae.checkpoint), str(vae.result.folder)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["check"] for record in records] == [
        "checkpoint",
        "parity, model.onnx",
        "golden.npy",
        "half arithmetic, model.fp16.onnx",
    ]
    assert all(record["passed"] for record in records), records
    assert "from PyTorch in float64" in records[2]["detail"]
    assert "4 golden images" in records[2]["detail"]


def test_reprove_finds_posteriors_that_are_not_the_checkpoints(
    vae: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(vae.repository, tmp_path / "models")
    path = tmp_path / "models" / "digits-encode" / "1" / "golden.npy"
    np.save(path, np.load(path) + np.float32(1e-4))
    assert main([str(vae.checkpoint), str(tmp_path / "models" / "digits" / "1")]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["check"] for record in records if not record["passed"]] == ["golden.npy"]
    assert "1.0e-04 from PyTorch's posteriors in float64, more than" in records[2]["detail"]


def test_reprove_passes_an_encoder_of_an_earlier_release(
    vae: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(vae.repository, tmp_path / "models")
    without_golden_posteriors(tmp_path / "models" / "digits-encode" / "1")
    assert main([str(vae.checkpoint), str(tmp_path / "models" / "digits" / "1")]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "golden.npy" not in [record["check"] for record in records]
    assert all(record["passed"] for record in records)


def test_reprove_finds_another_checkpoint(
    gan: Exported, make_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(make_checkpoint("gan", seed=1)), str(gan.result.folder)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["passed"] for record in records] == [False, False, False]
    assert "the certificate names the weights" in records[0]["detail"]
    assert "from PyTorch in float64 at seed" in records[1]["detail"]
