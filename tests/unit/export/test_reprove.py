"""A published version against its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from export.reprove import main
from tests.unit.export.conftest import Exported


def test_reprove_passes_the_checkpoint_that_a_version_came_from(
    vae: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(vae.checkpoint), str(vae.result.folder)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["check"] for record in records] == [
        "checkpoint",
        "parity, model.onnx",
        "half arithmetic, model.fp16.onnx",
    ]
    assert all(record["passed"] for record in records), records


def test_reprove_finds_another_checkpoint(
    gan: Exported, make_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(make_checkpoint("gan", seed=1)), str(gan.result.folder)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["passed"] for record in records] == [False, False, False]
    assert "the certificate names the weights" in records[0]["detail"]
    assert "from PyTorch in float64 at seed" in records[1]["detail"]
