"""A checkpoint as a source."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from export.adapters.checkpoint import load_checkpoint
from export.errors import InputError
from tests.unit.export.conftest import Exported


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_metric_that_is_no_number_is_rejected(gan: Exported, tmp_path: Path, value: str) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(gan.checkpoint, folder)
    info = json.loads((folder / "model.json").read_text())
    info["metrics"] = {"accuracy": 0.5, "loss": float(value.lower())}
    (folder / "model.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"has loss (nan|inf): training diverged"):
        load_checkpoint(folder)
