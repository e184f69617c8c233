"""Each step of surgery leaves what a graph computes, and removes what it says."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from export.graph.writer import BATCH, new_model
from export.surgery.reparametrise import fold_reparametrisations
from export.surgery.simplify import drop_dead, fold_constants, simplify, symmetric_padding
from ganvas_core.session import CpuSession

RANDOM = np.random.default_rng(0)
FEEDS = {"x": RANDOM.normal(size=(3, 4, 5, 6)).astype(np.float32)}


def model(nodes: list[NodeProto], *, channels: int = 4, **weights: Any) -> ModelProto:
    """x [batch, 4, 5, 6] → y [batch, channels, …]."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, 4, 5, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [BATCH, channels, None, None])
    initializer = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    return new_model(helper.make_graph(nodes, "network", [x], [y], initializer=initializer))


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), name=f"n/{outputs}", **attributes)


def run(network: ModelProto) -> Any:
    return CpuSession(network.SerializeToString()).run(FEEDS)[0]


def ops(network: ModelProto) -> list[str]:
    return [node.op_type for node in network.graph.node]


WEIGHT = RANDOM.normal(size=(4, 4, 3, 3)).astype(np.float32)


def equalised() -> ModelProto:
    """A weight that is scaled on every run."""
    nodes = [node("Mul", "weight scale", "scaled"), node("Conv", "x scaled", "y")]
    return model(nodes, weight=WEIGHT, scale=np.float32(0.1))


def fir() -> ModelProto:
    """A kernel that is made of its taps and repeated for every channel on every run."""
    nodes = [
        node("Mul", "column row", "outer"),
        node("ReduceSum", "outer", "sum", keepdims=1),
        node("Div", "outer sum", "kernel"),
        node("Expand", "kernel shape", "repeated"),
        node("Conv", "x repeated", "y", group=4),
    ]
    taps = np.array([1, 3, 3, 1], np.float32)
    return model(nodes, column=taps[:, None], row=taps[None], shape=np.array([4, 1, 4, 4], np.int64))


@pytest.mark.parametrize(("made", "num_folded"), [(equalised(), 1), (fir(), 4)])
def test_constants_scales_of_weights_and_fir_kernels_are_folded(made: ModelProto, num_folded: int) -> None:
    simpler, num_changed = fold_constants(made)
    assert num_changed == num_folded
    assert ops(simpler) == ["Conv"]
    assert len(simpler.graph.initializer) == 1
    np.testing.assert_array_equal(run(simpler), run(made))


@pytest.mark.parametrize("pads", [[1, 0, 0, 2], [0, 1, 1, 1], [0, 0, 1, 1]])
def test_uneven_padding_of_a_transposed_convolution_is_made_even(pads: list[int]) -> None:
    made = model([node("ConvTranspose", "x weight", "y", pads=pads, strides=[2, 2])], weight=WEIGHT)
    simpler, num_changed = symmetric_padding(made)
    assert num_changed == 1
    assert ops(simpler) == ["ConvTranspose", "Slice"]
    even = next(entry.ints for entry in simpler.graph.node[0].attribute if entry.name == "pads")
    assert list(even[:2]) == list(even[2:])
    np.testing.assert_array_equal(run(simpler), run(made))


def test_dead_nodes_outputs_and_weights_are_dropped() -> None:
    nodes = [
        node("Dropout", "x ratio", "kept mask"),
        node("Mul", "x unread", "dead"),
        node("Relu", "dead", "deader"),
        node("Tanh", "kept", "y"),
    ]
    made = model(nodes, ratio=np.float32(0.5), unread=np.float32(2.0), spare=WEIGHT)
    simpler, num_changed = drop_dead(made)
    assert num_changed == 5  # two nodes, a mask, and two weights that nothing reads
    assert ops(simpler) == ["Dropout", "Tanh"]
    assert list(simpler.graph.node[0].output) == ["kept"]
    assert [tensor.name for tensor in simpler.graph.initializer] == ["ratio"]
    np.testing.assert_array_equal(run(simpler), run(made))


def test_a_graph_with_nothing_to_remove_is_left_alone() -> None:
    made = model([node("Conv", "x weight", "y")], weight=WEIGHT)
    assert simplify(made, FEEDS) == (made, [])


def test_what_each_step_removed_is_reported() -> None:
    simpler, changes = simplify(fir(), FEEDS)
    assert [(change.step, change.num_changed) for change in changes] == [("fold_constants", 4)]
    assert np.isfinite(changes[0].won_ms)
    assert ops(simpler) == ["Conv"]


class Normed(nn.Module):
    """Weight norm and spectral norm, by parametrizations and by the hooks before them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.layers = nn.ModuleList(
                norm(nn.Linear(4, 4))
                for norm in (
                    nn.utils.parametrizations.weight_norm,
                    nn.utils.parametrizations.spectral_norm,
                    nn.utils.weight_norm,
                    nn.utils.spectral_norm,
                )
            )

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers:
            x = functional.relu(layer(x)) + x
        return x


def test_weight_norm_and_spectral_norm_are_folded_into_the_weight() -> None:
    network, x = Normed().eval(), torch.randn(5, 4)
    before = network(x)
    assert fold_reparametrisations(network) == 4
    assert {name.split(".")[-1] for name in network.state_dict()} == {"weight", "bias"}
    torch.testing.assert_close(network(x), before)
    assert fold_reparametrisations(network) == 0


def test_folding_a_copy_leaves_the_network_its_parametrizations() -> None:
    network = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))).eval()
    x = torch.randn(2, 3)
    before = network(x)
    for _ in range(2):
        copied = copy.deepcopy(network)
        assert fold_reparametrisations(copied) == 1
        assert torch.allclose(copied(x), before)
    assert torch.equal(network(x), before)
    assert type(copied[0]) is nn.Linear
