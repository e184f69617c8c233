"""Runs an fp16 graph in true half arithmetic, as a GPU does: each node computes in float32 on half-valued inputs, and
what it makes is rounded to half.

ONNX Runtime's CPU provider has no half kernels on x86: it computes a whole fp16 file in float32, and only the rounding
of the weights is seen. So every node runs here as a session of its own, in float32, on the values that the rounded
nodes before it made. Sums are accumulated in float32, as the matrix units of GPUs do; a sum, product, quotient or root
of two half numbers that is computed in float32 and then rounded is the correctly rounded one.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export.graph.tensors import external_place, to_array
from export.graph.types import value_types
from export.graph.writer import new_model
from export.progress import track
from ganvas_core.session import CpuSession

__all__ = ["Activations", "NodeByNode", "round_to_half"]

Arrays = Mapping[str, NDArray[Any]]
SessionCache = MutableMapping[bytes, CpuSession]

_FLOATS = (TensorProto.FLOAT16, TensorProto.FLOAT)


@dataclass
class Activations:
    """What the nodes of a graph made, over every run so far."""

    peaks: dict[str, float] = field(default_factory=dict)
    """Value name to its largest size; of float values alone."""
    num_nonfinite: dict[str, int] = field(default_factory=dict)
    """Value name to how many of its elements were infinite or not a number, where any was."""

    def record(self, name: str, values: torch.Tensor) -> None:
        peak = float(values.abs().max()) if values.numel() else 0.0
        if not np.isfinite(peak):
            finite = values.isfinite()
            missing = int(values.numel() - finite.sum())
            self.num_nonfinite[name] = self.num_nonfinite.get(name, 0) + missing
            peak = float("inf")
        self.peaks[name] = max(peak, self.peaks.get(name, 0.0))


class NodeByNode:
    """A graph, one session a node.

    Args:
        cache: sessions by what they compute, to share among graphs of one network.
    Raises:
        GateError: the graph has control flow, or a value whose type cannot be inferred.
    """

    def __init__(self, model: ModelProto, *, threads: int = 1, cache: SessionCache | None = None) -> None:
        self.activations = Activations()
        """Of every float value, network inputs apart."""
        self._types = value_types(model)
        self._nodes = list(model.graph.node)
        self._outputs = [value.name for value in model.graph.output]
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        # What lies in a file is read from it on every run: a session would hold a copy of it, in float32.
        self._filed = {name: tensor for name, tensor in weights.items() if external_place(tensor) is not None}
        inline = {name: tensor for name, tensor in weights.items() if name not in self._filed}
        sessions: SessionCache = {} if cache is None else cache
        self._sessions = []
        for node in self._nodes:
            single = _single_node(node, self._types, inline)
            key = single.SerializeToString(deterministic=True)
            if key not in sessions:
                sessions[key] = CpuSession(key, threads=threads)
            self._sessions.append(sessions[key])
        self._constants = {name: to_array(weights[name]) for name in self._outputs if name in weights}
        # Where each value is read for the last time, to free it there.
        self._last_use: dict[str, int] = {}
        for index, node in enumerate(self._nodes):
            for name in (*node.input, *node.output):
                self._last_use[name] = index
        for name in self._outputs:
            self._last_use[name] = len(self._nodes)

    def run(self, feeds: Arrays) -> list[NDArray[Any]]:
        """Every output, in the graph's order; half ones as float32."""
        values: dict[str, NDArray[Any]] = dict(self._constants) | {
            name: _as_float32(array) for name, array in feeds.items()
        }
        for index, (node, session) in enumerate(zip(self._nodes, self._sessions, strict=True)):
            filed = {name: _as_float32(to_array(self._filed[name])) for name in node.input if name in self._filed}
            given = filed | {name: values[name] for name in node.input if name in values}
            made = session.run({f"in{i}": given[name] for i, name in enumerate(node.input) if name in given})
            for name, array in zip(filter(None, node.output), made, strict=True):
                if self._types[name] in _FLOATS:
                    tensor = torch.from_numpy(array)
                    if self._types[name] == TensorProto.FLOAT16:
                        tensor = tensor.half().float()
                    self.activations.record(name, tensor)
                    array = tensor.numpy()
                values[name] = array
            for name in {*node.input, *node.output}:
                if self._last_use.get(name) == index:
                    values.pop(name, None)
        return [values[name] for name in self._outputs]

    def run_in_batches(self, feeds: Arrays, batch_size: int) -> list[NDArray[Any]]:
        """Every output of all rows, `batch_size` rows at a time, the last batch smaller."""
        num_rows = len(next(iter(feeds.values())))
        parts = [
            self.run({name: array[start : start + batch_size] for name, array in feeds.items()})
            for start in track(range(0, num_rows, batch_size), f"half arithmetic, batches of {batch_size}")
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def half_peak(self) -> tuple[str, float]:
        """The half value of the largest size, and that size. ("", 0) where there is none."""
        halves = [(name, peak) for name, peak in self.activations.peaks.items() if self._is_half(name)]
        return max(halves, key=lambda entry: entry[1], default=("", 0.0))

    def _is_half(self, name: str) -> bool:
        return self._types[name] == TensorProto.FLOAT16

    def maker(self, value: str) -> str:
        """The node that makes a value."""
        return next((str(node.name) for node in self._nodes if value in node.output), value)


def round_to_half(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest half number to each element, ties to even; beyond 65,520 an infinity."""
    rounded: NDArray[np.float32] = torch.from_numpy(np.ascontiguousarray(array)).half().float().numpy()
    return rounded


def _single_node(node: NodeProto, types: Mapping[str, int], weights: Mapping[str, TensorProto]) -> ModelProto:
    """The node alone, half read as float32. Inputs are named by place, so that equal nodes are equal graphs."""
    alone = NodeProto()
    alone.CopyFrom(node)
    alone.name = ""
    inputs: list[ValueInfoProto] = []
    initializers: list[TensorProto] = []
    for i, name in enumerate(node.input):
        if not name:
            continue
        alone.input[i] = f"in{i}"
        if name in weights:
            initializers.append(numpy_helper.from_array(_as_float32(to_array(weights[name])), f"in{i}"))
        else:
            inputs.append(helper.make_tensor_value_info(f"in{i}", _float32_for_half(types[name]), None))
    outputs = []
    for i, name in enumerate(node.output):
        if name:
            alone.output[i] = f"out{i}"
            outputs.append(helper.make_tensor_value_info(f"out{i}", _float32_for_half(types[name]), None))
    for attribute in alone.attribute:
        if node.op_type == "Cast" and attribute.name == "to":
            attribute.i = _float32_for_half(attribute.i)
        elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT16:
            attribute.t.CopyFrom(numpy_helper.from_array(_as_float32(to_array(attribute.t))))
    return new_model(helper.make_graph([alone], "node", inputs, outputs, initializer=initializers))


def _float32_for_half(elem_type: int) -> int:
    return int(TensorProto.FLOAT) if elem_type == TensorProto.FLOAT16 else elem_type


def _as_float32(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float16 else array
