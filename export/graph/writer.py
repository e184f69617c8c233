"""Writes small ONNX graphs node by node, for what torch's exporter gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from export.graph.tensors import from_array, open_graph
from ganvas_core.interface import Tensor
from ganvas_core.session import CpuSession

__all__ = ["BATCH", "IR_VERSION", "OPSET", "Graph", "GraphWriter", "new_model", "onnx_type"]

BATCH = "batch"
"""Name of the symbolic batch dimension in every graph."""

OPSET = 18
"""On ONNX Runtime's CUDA provider several kernels of later opsets fall back to the CPU: Pad-19, ConvTranspose-22."""

IR_VERSION = 10
"""Read by ONNX Runtime 1.18 and newer, so by the Triton containers of 2024 and newer."""


class Graph:
    """A graph, and how to run it."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model

    def open(self, *, threads: int = 1, pinned_batch: int | None = None) -> CpuSession:
        """A session on the CPU provider; let go of it to have its memory back."""
        return open_graph(self.model, threads=threads, pinned_batch=pinned_batch)


class GraphWriter:
    """Nodes and initializers in the order they are needed; op and constant give back the name of a value."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []

    def constant(self, name: str, array: NDArray[Any]) -> str:
        full_name = f"{self._name}/{name}"
        self._initializers.append(from_array(np.ascontiguousarray(array), full_name))
        return full_name

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node of one output, named `output` or by its place, and give back the output's name."""
        node_name = f"{self._name}/{op_type}_{len(self._nodes)}"
        result = output or node_name
        self._nodes.append(helper.make_node(op_type, inputs, [result], name=node_name, **attributes))
        return result

    def model(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> ModelProto:
        """The finished model, every tensor with the symbolic batch dimension first."""
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [_value_info(tensor) for tensor in inputs],
            [_value_info(tensor) for tensor in outputs],
            initializer=self._initializers,
        )
        return new_model(graph)


def new_model(graph: GraphProto) -> ModelProto:
    """A model of one graph, at our opset, without anything that depends on the machine it was made on."""
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ganvas", ir_version=IR_VERSION
    )


def onnx_type(tensor: Tensor) -> int:
    """The onnx.TensorProto data type of a tensor of the contract."""
    return int(helper.np_dtype_to_tensor_dtype(tensor.dtype))


def _value_info(tensor: Tensor) -> Any:
    return helper.make_tensor_value_info(tensor.name, onnx_type(tensor), [BATCH, *tensor.dims])
