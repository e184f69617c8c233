"""The same model.onnx in onnxruntime-web, in WebAssembly under Node: the same latents, and images within a level."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.graph.noise import noise_graph
from ganvas_core import noise
from ganvas_core.certificate import Certificate
from ganvas_core.interface import sample_inputs
from ganvas_core.names import FP32_FILE
from ganvas_core.session import CpuSession

EDGE = Path(__file__).resolve().parents[2] / "docs" / "edge"
SEEDS = [0, 1, 42, 2**63, 2**64 - 1]

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node"),
    pytest.mark.skipif(
        not (EDGE / "node_modules" / "onnxruntime-web").is_dir(),
        reason="needs onnxruntime-web: cd docs/edge; npm install",
    ),
]


def run_in_wasm(model: Path, *, truncation: float, label: int) -> list[Any]:
    arguments = [str(model), str(truncation), str(label), *map(str, SEEDS)]
    shown = subprocess.run(
        ["node", "sample.mjs", *arguments], cwd=EDGE, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    types = {"uint8": np.uint8, "float32": np.float32}
    made = [json.loads(line) for line in shown.splitlines()]
    return [np.frombuffer(bytes.fromhex(row["hex"]), types[row["type"]]).reshape(row["dims"]) for row in made]


@pytest.mark.parametrize("shape", [(64,), (4, 3, 5)])
def test_latents_are_the_same_bits(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(noise_graph(shape).SerializeToString())
    made = np.concatenate(run_in_wasm(path, truncation=1.0, label=0))
    expected = noise.latents(SEEDS, shape)
    np.testing.assert_array_equal(made.view(np.uint32), expected.view(np.uint32))


def test_images_are_within_a_level(model_repository: Path) -> None:
    num_compared = 0
    for folder in sorted(model_repository.iterdir()):
        certificate = Certificate.read(folder / "1")
        if certificate.role != "sample":
            continue
        path = folder / "1" / FP32_FILE
        labels = 1 if certificate.labels else None
        made = np.concatenate(run_in_wasm(path, truncation=0.7, label=1))
        (expected,) = CpuSession(path).run(sample_inputs(SEEDS, 0.7, labels))
        assert made.shape == expected.shape
        assert np.abs(made.astype(np.int16) - expected).max() <= 1
        num_compared += 1
    assert num_compared
