"""Weights rescaled by powers of two: exact, and only where nothing but a scale lies between two layers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.graph.writer import new_model
from export.precision.rescale import PEAK_LIMIT, choose_exponents, find_pairs, rescale
from export.proof.half import NodeByNode
from ganvas_core.session import CpuSession

X = np.random.default_rng(1).normal(size=(3, 4, 6, 6)).astype(np.float32)


def network(*between: str, factor: float = 1.0, read_twice: bool = False) -> ModelProto:
    """A convolution whose result is about `factor`, the operators, and a convolution that undoes the factor."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(4, 4, 3, 3)).astype(np.float32) * np.float32(factor),
        "b1": rng.normal(size=4).astype(np.float32) * np.float32(factor),
        "w2": rng.normal(size=(4, 4, 1, 1)).astype(np.float32) / np.float32(factor),
        "b2": rng.normal(size=4).astype(np.float32),
        "slope": np.full((4, 1, 1), 0.25, np.float32),
        "offset": np.full((4, 1, 1), 0.5 * factor, np.float32),
        "scales": np.array([1, 1, 1, 1], np.float32),
    }
    extra = {"PRelu": ["slope"], "Add": ["offset"], "Mul": ["slope"], "Resize": ["", "scales"]}
    nodes = [helper.make_node("Conv", ["x", "w1", "b1"], ["v0"], name="first", pads=[1, 1, 1, 1])]
    for i, op_type in enumerate(between):
        nodes.append(helper.make_node(op_type, [f"v{i}", *extra.get(op_type, [])], [f"v{i + 1}"], name=op_type))
    last = f"v{len(between)}"
    nodes.append(helper.make_node("Conv", [last, "w2", "b2"], ["y"], name="second"))
    if read_twice:
        nodes.append(helper.make_node("Add", ["y", last], ["z"], name="residual"))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [helper.make_tensor_value_info("z" if read_twice else "y", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        initializer=[numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return new_model(graph)


def peaks(model: ModelProto) -> dict[str, float]:
    graph = NodeByNode(model)
    graph.run({"x": X})
    return graph.activations.peaks


@pytest.mark.parametrize("between", [("Relu",), ("LeakyRelu",), ("PRelu",), ("Resize",), ("Add", "Relu"), ()])
@pytest.mark.parametrize("factor", [1e5, 1e-8])
def test_rescaling_brings_both_layers_into_range_and_changes_no_bit(between: tuple[str, ...], factor: float) -> None:
    model = network(*between, factor=factor)
    exponents = choose_exponents(model, peaks(model))
    assert list(exponents) == ["first"]
    mended = rescale(model, exponents)
    assert 2.0**-8 < peaks(mended)["v0"] < PEAK_LIMIT
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in mended.graph.initializer}
    assert all(2.0**-8 <= np.abs(weights[name]).max() <= 2.0**15 for name in ("w1", "w2"))
    (made,), (wanted,) = (CpuSession(each.SerializeToString()).run({"x": X}) for each in (mended, model))
    assert made.tobytes() == wanted.tobytes()


def test_what_is_in_range_is_left_alone() -> None:
    model = network("Relu", factor=8.0)
    assert choose_exponents(model, peaks(model)) == {}


@pytest.mark.parametrize("between", [("Tanh",), ("Sigmoid",), ("Mul",)])
def test_what_is_not_a_scale_is_no_pair(between: tuple[str, ...]) -> None:
    assert find_pairs(network(*between)) == []


def test_a_value_that_something_else_reads_is_no_pair() -> None:
    assert find_pairs(network("Relu", read_twice=True)) == []
