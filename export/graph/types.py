"""Element types of a graph's values, and the range of fp16."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto

from export.errors import GateError

__all__ = ["FP16_MAX", "value_types"]

FP16_MAX = float(np.finfo(np.float16).max)


def value_types(model: ModelProto) -> dict[str, int]:
    """Element type of every value of a graph, initializers and inputs included.

    Raises:
        GateError: the graph has control flow, or a type cannot be inferred.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise GateError(f"the types of the graph cannot be inferred: {' '.join(str(error).split())}") from None
    types = {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = int(value.type.tensor_type.elem_type)
    for node in graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise GateError(f"{node.name} is control flow ({node.op_type}), which no fp16 file may have.")
        for name in node.output:
            if name and not types.get(name):
                raise GateError(f"the type of {name}, which {node.name} makes, cannot be inferred.")
    return types
