"""A planted defect of every kind is refused, with its node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.errors import GateError
from export.graph import guards
from export.graph.guards import check_external_data, check_guards, check_on_gpu
from export.graph.writer import BATCH, OPSET


def model(*nodes: NodeProto, batch: Any = BATCH, **constants: Any) -> ModelProto:
    """x [batch, 4] → y [batch, 4] of some nodes."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 4]) for name in ("x", "y")]
    graph = helper.make_graph(
        list(nodes),
        "g",
        value[:1],
        value[1:],
        initializer=[numpy_helper.from_array(np.array(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def node(op_type: str, inputs: tuple[str, ...] = ("x",), **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, list(inputs), ["y"], name="planted", **attributes)


VECTOR = np.ones(4, np.float32)
TABLE = json.loads((Path(guards.__file__).parent / "cuda_kernels.json").read_text())
STATISTICS = {"scale": VECTOR, "bias": VECTOR, "mean": VECTOR, "variance": VECTOR}
NORM = ("x", "scale", "bias", "mean", "variance")

BAD = {
    "random": (model(node("RandomNormalLike")), r"RandomNormalLike node planted: its noise is not the seed's"),
    "bernoulli": (model(node("Bernoulli")), r"Bernoulli node planted: its noise is not the seed's"),
    "memcpy": (model(node("MemcpyToHost")), r"MemcpyToHost node planted: it copies between CPU and GPU"),
    "dropout": (
        model(node("Dropout", ("x", "ratio", "mode")), ratio=np.float32(0.5), mode=np.bool_(True)),
        r"Dropout node planted in training mode",
    ),
    "batch norm": (
        model(
            helper.make_node("BatchNormalization", NORM, ["y", "m", "v"], name="planted", training_mode=1), **STATISTICS
        ),
        r"BatchNormalization node planted in training mode",
    ),
    "no kernel": (model(node("Det")), r"Det node planted: ONNX Runtime has no CUDA kernel for Det"),
    "bit shift": (
        model(node("BitShift", ("x", "x"), direction="LEFT")),
        r"BitShift node planted: ONNX Runtime has no CUDA kernel",
    ),
    "no kernel for the type": (
        model(
            helper.make_node("Cast", ["x"], ["whole"], name="whole", to=TensorProto.UINT64),
            helper.make_node("Tile", ["whole", "repeats"], ["tiled"], name="tile"),
            node("Cast", ("tiled",), to=TensorProto.FLOAT),
            repeats=[1, 1],
        ),
        r"Tile node tile of uint64: ONNX Runtime's CUDA kernel takes bfloat16, double, float, float16, int32, int64",
    ),
    "frozen reshape": (
        model(node("Reshape", ("x", "shape")), shape=[2, 4]),
        r"Reshape node planted freezes the batch dimension to 2: its shape is the constant \[2, 4\]",
    ),
    "frozen expand": (
        model(node("Expand", ("x", "shape")), shape=[3, 4]),
        r"Expand node planted freezes the batch dimension to 3",
    ),
    "frozen input": (model(node("Relu"), batch=2), r"batch dimension of the input x is frozen to 2"),
}


@pytest.mark.parametrize("defect", BAD)
def test_a_planted_defect_is_refused_with_its_node(defect: str) -> None:
    planted, message = BAD[defect]
    with pytest.raises(GateError, match=message):
        check_guards(planted)


@pytest.mark.parametrize(
    "good",
    [
        model(node("Relu")),
        model(node("Reshape", ("x", "shape")), shape=[-1, 4]),
        model(node("Dropout", ("x", "ratio", "mode")), ratio=np.float32(0.5), mode=np.bool_(False)),
        model(node("BatchNormalization", NORM), **STATISTICS),
    ],
)
def test_what_is_no_defect_passes(good: ModelProto) -> None:
    check_guards(good)


def test_missing_external_data_is_refused_with_tensor_and_file(tmp_path: Path) -> None:
    graph = model(node("Add", ("x", "weight")), weight=VECTOR)
    path = tmp_path / "model.onnx"
    onnx.save_model(
        graph, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0, convert_attribute=False
    )
    loaded = onnx.load(path, load_external_data=False)
    check_external_data(loaded, tmp_path)
    elsewhere = ModelProto()
    elsewhere.CopyFrom(loaded)
    elsewhere.graph.initializer[0].external_data[0].value = str(tmp_path / "model.onnx.data")
    with pytest.raises(GateError, match="external data of weight lies in another folder, /"):
        check_external_data(elsewhere, tmp_path)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(GateError, match=r"external data of weight is missing: there is no file model\.onnx\.data"):
        check_external_data(loaded, tmp_path)


def test_the_table_names_its_source_and_this_opset() -> None:
    table = TABLE
    assert "OperatorKernels.md" in table["source"]
    assert table["opset"] == OPSET
    assert "commit 001d12d2623fd411ce0f83d05abb5e82304a3389" in table["source"]
    known = [*table["operators"], *table["made_of_others"]]
    assert len(set(known)) == len(known)
    assert all(onnx.defs.has(name) for name in known)


def test_every_row_of_the_table_is_of_this_opset_and_of_types_that_onnx_has() -> None:
    for name, row in TABLE["operators"].items():
        versions, types = row.split(": ")
        first, _, last = versions.rstrip("+").partition("-")
        assert int(first) <= OPSET, name
        assert versions.endswith("+") or int(last or first) >= OPSET, name
        schema = onnx.defs.get_schema(name, OPSET)
        allowed = {text[7:-1] for parameter in (*schema.inputs, *schema.outputs) for text in parameter.types}
        assert set(types.split()) - {"seq", "bfloat16"} <= allowed, name  # ONNX Runtime has bfloat16 where ONNX has not


@pytest.mark.parametrize("name", TABLE["made_of_others"])
def test_what_is_made_of_others_is_a_function_of_onnx(name: str) -> None:
    schema: Any = onnx.defs.get_schema(name, OPSET)
    assert schema.has_function or schema.has_context_dependent_function


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="needs an NVIDIA GPU")
def test_a_graph_runs_on_the_gpu_alone() -> None:
    assert check_on_gpu(model(node("Relu")).SerializeToString())
