"""Writes a float32 network in fp16: weights and activations, while its inputs and outputs stay in float32.

Noise, preprocess and postprocess are joined to it afterwards, so they stay in float32 by construction. Every node
computes in one precision, and a Cast stands where a value goes from one to the other, once for each value.

A node that only moves or selects elements (Reshape, Relu, a nearest Resize) takes the precision that it is given, so
that it costs no Cast. Inputs that no precision changes, as the scales of Resize, stay float32.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from export.graph.tensors import from_array, to_array
from export.graph.types import FP16_MAX, value_types
from export.graph.writer import OPSET, new_model

__all__ = ["MOVING", "clipped_weights", "fp16_network", "has_fp16_form", "is_exact", "nodes_out_of_range"]


MOVING = frozenset(
    [
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "MaxPool",
        "Neg",
        "Relu",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators that give elements of what they are given: they round nothing."""

_FLOAT32_ALONE = frozenset(
    [
        "Bernoulli",
        "ConstantOfShape",
        "EyeLike",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Range",
    ]
)
"""Operators whose output has the type that an attribute names."""

_HALF, _FLOAT = int(TensorProto.FLOAT16), int(TensorProto.FLOAT)


def fp16_network(network: ModelProto, *, keep_fp32: Collection[str] = (), clip: bool = False) -> ModelProto:
    """A copy of a float32 network in fp16, but for the nodes named in keep_fp32.

    Weights are rounded to the nearest half number, tiny ones to zero. Those that no half number can hold must be among
    the inputs of nodes in keep_fp32 (nodes_out_of_range), or clip is set (clipped_weights).

    Args:
        clip: weights beyond the largest half number become it.
    Raises:
        GateError: the network has control flow.
    """
    writer = _Writer(_constants_as_initializers(network), keep_fp32, clip)
    for node in writer.network.graph.node:
        writer.add(node)
    return writer.finished()


class _Writer:
    """The copy of one network, node by node in its order."""

    def __init__(self, network: ModelProto, keep_fp32: Collection[str], clip: bool) -> None:
        self.network = network
        self._keep_fp32 = keep_fp32
        self._clip = clip
        self._weights = {tensor.name: tensor for tensor in network.graph.initializer}
        self._is_float = {name for name, elem_type in value_types(network).items() if elem_type == _FLOAT}
        self._outputs = {value.name for value in network.graph.output}
        self._precision = {value.name: _FLOAT for value in network.graph.input}
        """Of each value so far; of a float value, the one in which it is computed."""
        self._casts: dict[tuple[str, int], str] = {}
        """Of a value and another precision, the name it has there."""
        self._made: dict[str, TensorProto] = {}
        """The initializers of the copy."""
        self._graph = GraphProto(name=network.graph.name)
        self._graph.input.extend(network.graph.input)
        self._graph.output.extend(network.graph.output)

    def add(self, original: NodeProto) -> None:
        """Copy a node, in the precision that it computes in, with the casts around it."""
        node = NodeProto()
        node.CopyFrom(original)
        half = self._is_half(node)
        self._connect_inputs(node, half)
        for i, name in enumerate(node.output):
            if name in self._is_float:
                self._precision[name] = _HALF if half else _FLOAT
                if half and name in self._outputs:
                    node.output[i] = f"{name}/fp16"
        if half and node.op_type == "Cast" and original.output[0] in self._is_float:
            next(entry for entry in node.attribute if entry.name == "to").i = _HALF
        self._graph.node.append(node)
        for name in original.output:
            if name in self._outputs and self._precision.get(name) == _HALF:
                self._cast(f"{name}/fp16", name, f"{name}/to_fp32", _FLOAT)
                self._casts[name, _HALF] = f"{name}/fp16"
                self._precision[name] = _FLOAT

    def finished(self) -> ModelProto:
        for name in self._outputs & set(self._weights):
            self._made[name] = self._weights[name]
        self._graph.initializer.extend(self._made.values())
        return new_model(self._graph)

    def _is_half(self, node: NodeProto) -> bool:
        """Whether a node computes in half: if it may, and one that only moves elements if it is given some."""
        half = node.name not in self._keep_fp32 and has_fp16_form(node)
        given = [self._precision[name] for name in node.input if name in self._is_float and name not in self._weights]
        return _HALF in given if half and is_exact(node) and given else half

    def _connect_inputs(self, node: NodeProto, half: bool) -> None:
        for i, name in enumerate(node.input):
            if name in self._is_float:
                takes = _HALF if half and _type_variable(node, i) else _FLOAT
                # A Cast takes what it is given.
                wanted = self._precision.get(name, _FLOAT) if node.op_type == "Cast" else takes
                node.input[i] = self._read(name, wanted)
            elif name in self._weights:
                self._made[name] = self._weights[name]

    def _read(self, name: str, wanted: int) -> str:
        """The name of a float value in a precision."""
        if name in self._weights:
            if wanted == _FLOAT:
                self._made[name] = self._weights[name]
                return name
            half = f"{name}/fp16"
            self._made[half] = from_array(_rounded(self._weights[name], self._clip), half)
            return half
        if self._precision[name] == wanted:
            return name
        if (name, wanted) not in self._casts:
            suffix = "fp16" if wanted == _HALF else "fp32"
            self._casts[name, wanted] = f"{name}/{suffix}"
            self._cast(name, f"{name}/{suffix}", f"{name}/to_{suffix}", wanted)
        return self._casts[name, wanted]

    def _cast(self, source: str, target: str, name: str, to: int) -> None:
        self._graph.node.append(helper.make_node("Cast", [source], [target], name=name, to=to))


def has_fp16_form(node: NodeProto) -> bool:
    """Whether each float input and output of the operator may be fp16, or is float32 whatever the others are."""
    if node.op_type in _FLOAT32_ALONE or not onnx.defs.has(node.op_type):
        return False
    schema = onnx.defs.get_schema(node.op_type, OPSET)
    allowed = {entry.type_param_str: set(entry.allowed_type_strs) for entry in schema.type_constraints}
    variables = {parameter.type_str for parameter in (*schema.inputs, *schema.outputs)}
    return all(
        "tensor(float16)" in allowed[variable]
        for variable in variables
        if variable in allowed and "tensor(float)" in allowed[variable]
    )


def is_exact(node: NodeProto) -> bool:
    """Whether the node rounds nothing that it is given in half."""
    if node.op_type == "Resize":
        mode = next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == "mode"), b"nearest")
        return bool(mode == b"nearest")
    return node.op_type in MOVING


def nodes_out_of_range(network: ModelProto) -> dict[str, str]:
    """Node name to reason, for the nodes with a weight that fp16 cannot hold."""
    weights = {tensor.name: tensor for tensor in network.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    reasons: dict[str, str] = {}
    for node in network.graph.node:
        arrays = [to_array(weights[name]) for name in _half_inputs(node) if name in weights]
        largest = max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)
        if largest > FP16_MAX:
            reasons[node.name] = f"a weight of {largest:.3g} is beyond the largest fp16 number, {FP16_MAX:.0f}"
    return reasons


def clipped_weights(network: ModelProto, *, keep_fp32: Collection[str] = ()) -> dict[str, str]:
    """Weight name to what of it fp16_network clips, for the weights of nodes in half that fp16 cannot hold."""
    network = _constants_as_initializers(network)
    half = {
        name
        for node in network.graph.node
        if node.name not in keep_fp32 and has_fp16_form(node)
        for name in _half_inputs(node)
    }
    clipped: dict[str, str] = {}
    for tensor in network.graph.initializer:
        if tensor.name in half and tensor.data_type == TensorProto.FLOAT:
            sizes = np.abs(to_array(tensor))
            if beyond := int((sizes > FP16_MAX).sum()):
                clipped[tensor.name] = (
                    f"{beyond} of {sizes.size} numbers are clipped to {FP16_MAX:.0f}; the largest was {sizes.max():.6g}"
                )
    return clipped


def _half_inputs(node: NodeProto) -> list[str]:
    """The inputs that are half where the node computes in half."""
    return [name for i, name in enumerate(node.input) if node.op_type == "Constant" or _type_variable(node, i)]


def _type_variable(node: NodeProto, index: int) -> bool:
    """Whether an input's type may vary: the scales of Resize are float32 whatever its data is."""
    parameters = onnx.defs.get_schema(node.op_type, OPSET).inputs
    parameter = parameters[min(index, len(parameters) - 1)]
    if node.op_type == "Resize" and index > 0:
        return False
    return not parameter.type_str.startswith("tensor(")


def _rounded(tensor: TensorProto, clip: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    array = to_array(tensor)
    with np.errstate(over="ignore"):
        return np.asarray((array.clip(-FP16_MAX, FP16_MAX) if clip else array).astype(np.float16))


def _constants_as_initializers(network: ModelProto) -> ModelProto:
    """A copy without Constant nodes and without inferred types, which a change of precision makes wrong."""
    network = copy.deepcopy(network)
    graph = network.graph
    del graph.value_info[:]
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        (attribute,) = node.attribute
        if attribute.name == "value":
            array = to_array(attribute.t)
        else:
            integers = attribute.name.startswith("value_int")
            array = np.asarray(helper.get_attribute_value(attribute), np.int64 if integers else np.float32)
        graph.initializer.append(from_array(array, node.output[0]))
        graph.node.remove(node)
    return network
