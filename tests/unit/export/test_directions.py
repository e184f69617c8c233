"""Directions: the axes along which a decoder's images vary are found, in order, and kept with their own hash."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.directions import DirectionsOptions, directions, find_directions
from ganvas_core.certificate import Certificate, ModelFile
from ganvas_core.cli import UsageError
from ganvas_core.directions import Direction, Directions, DirectionsError
from tests.support.certificates import certificate

SPREADS = np.array([8.0, 40.0, 1.0, 20.0], np.float32)
"""Levels that pixel i changes by when latent dimension i does by 1."""
LABEL_SHIFT = np.array([[0, 0, 0, 30], [0, 0, 0, -30]], np.float32)


def described() -> Certificate:
    file = ModelFile(sha256="ab" * 32, num_bytes=1, precision="fp32")
    fields = {"latent_shape": (4,), "height": 2, "width": 2, "channels": 1, "labels": ("light", "dark")}
    return certificate("toy", "sample", files={"model.onnx": file}, **fields)


def write_decoder(folder: Path) -> None:
    """image = 128 + SPREADS * latent + LABEL_SHIFT[label], as uint8 [2, 2, 1]."""
    constants = {
        "spreads": SPREADS,
        "shift": LABEL_SHIFT,
        "middle": np.float32(128),
        "low": np.float32(0),
        "high": np.float32(255),
        "shape": np.array([-1, 2, 2, 1]),
        "axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Squeeze", ["label", "axis"], ["index"]),
        helper.make_node("Gather", ["shift", "index"], ["shifted"], axis=0),
        helper.make_node("Mul", ["latent", "spreads"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shifted"], ["sum"]),
        helper.make_node("Add", ["sum", "middle"], ["levels"]),
        helper.make_node("Clip", ["levels", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Reshape", ["bytes", "shape"], ["image"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n", 1]),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 2, 2, 1])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "model.onnx"
    )


def vector(direction: Direction) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(direction.vector), "<f4")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_decoder(tmp_path / "toy-decode" / "1")
    (tmp_path / "toy" / "1").mkdir(parents=True)
    (tmp_path / "toy" / "1" / "certificate.json").write_text(described().to_json())
    return tmp_path


def test_principal_directions_are_the_axes_of_most_change_one_standard_deviation_long(repository: Path) -> None:
    found = find_directions(described(), repository / "toy-decode" / "1", num_seeds=4096, components=3)
    principal = [direction for direction in found.directions if direction.kind == "principal"]
    shares = SPREADS**2 / (SPREADS**2).sum()
    for direction, axis in zip(principal, (1, 3, 0), strict=True):
        expected = np.zeros(4)
        expected[axis] = 1.0
        np.testing.assert_allclose(vector(direction), expected, atol=0.06)
        assert direction.explained == pytest.approx(shares[axis], abs=0.02)


def test_label_directions_lead_towards_the_mean_of_the_label(repository: Path) -> None:
    found = find_directions(described(), repository / "toy-decode" / "1", num_seeds=4096, components=1)
    light, dark = (direction for direction in found.directions if direction.kind == "label")
    assert (light.name, dark.name) == ("light", "dark")
    np.testing.assert_allclose(vector(light), [0, 0, 0, 1], atol=0.06)
    np.testing.assert_allclose(vector(dark), [0, 0, 0, -1], atol=0.06)


def test_verb_keeps_them_beside_the_model_with_a_hash(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directions(DirectionsOptions(name="toy", repository=repository, num_seeds=256))
    path = repository / "toy" / "1" / "directions.json"
    found = Directions.read(path)
    assert found.digest == "ab" * 32
    assert found.sha256[:16] in capsys.readouterr().out
    changed = json.loads(path.read_text())
    changed["directions"][0]["name"] = "another"
    path.write_text(json.dumps(changed))
    with pytest.raises(DirectionsError, match="was changed"):
        Directions.read(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sha256": "x", "format": 1}', '{"sha256": 1, "format": 2}'])
def test_file_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "directions.json"
    path.write_text(text)
    with pytest.raises(DirectionsError, match=r"is not a directions file"):
        Directions.read(path)


def test_unknown_model_and_version_are_errors_with_what_there_is(repository: Path) -> None:
    with pytest.raises(UsageError, match="there is no model 'nope'"):
        directions(DirectionsOptions(name="nope", repository=repository))
    with pytest.raises(UsageError, match=r"--version must be one of \[1\]"):
        directions(DirectionsOptions(name="toy", repository=repository, version=7))
