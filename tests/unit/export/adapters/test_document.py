"""The five adapters that docs/adapters.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.adapters.check import check_source
from export.adapters.file import load_adapter_file
from export.pipeline import export_model
from ganvas_core.interface import sample_inputs
from ganvas_core.names import FP32_FILE
from ganvas_core.session import CpuSession
from tests.unit.export.conftest import options

ADAPTERS = re.findall(r"```python\n(.*?)```", Path("docs/adapters.md").read_text(), re.DOTALL)


def weights_file(folder: Path, *, nested: bool) -> Path:
    """For the second adapter: a state dict, or a checkpoint of Lightning's."""
    state_dict = {"0.weight": torch.randn(64, 16), "0.bias": torch.zeros(64)}
    if not nested:
        save_file(state_dict, folder / "weights.safetensors")
        return folder / "weights.safetensors"
    prefixed = {f"generator.{key}": tensor for key, tensor in state_dict.items()}
    torch.save({"epoch": 3, "state_dict": prefixed, "optimizer_states": [{"state": {}}]}, folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.mark.parametrize(("index", "nested"), [(0, False), (1, False), (1, True), (2, False), (3, False), (4, False)])
def test_an_adapter_of_the_document_exports_and_samples(tmp_path: Path, index: int, nested: bool) -> None:
    path = tmp_path / "my_model.py"
    path.write_text(ADAPTERS[index])
    weights = weights_file(tmp_path, nested=nested) if "def adapter(weights)" in ADAPTERS[index] else None
    source = load_adapter_file(path, weights)
    check_source(source)
    result = export_model(source, options(tmp_path / "models", num_parity_seeds=4))
    (images,) = CpuSession(result.folder / FP32_FILE).run(sample_inputs([1, 2], 1.0, [0, 1] if source.labels else None))
    assert images.shape == (2, *source.image)
    assert images.std() > 5
    assert result.certificate.source["adapter"] == "my_model.py"


def test_the_document_shows_five_adapters() -> None:
    assert len(ADAPTERS) == 5
