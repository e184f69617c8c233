"""The fp16 file's network: weights and activations in fp16, inputs and outputs in float32.

Noise, preprocess and postprocess are joined to it afterwards, so they stay in float32 by construction.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper
from onnxconverter_common import float16

__all__ = ["fp16_network", "nodes_out_of_range"]

_FP16_MAX = float(np.finfo(np.float16).max)


def fp16_network(network: ModelProto, *, keep_fp32: Collection[str] = ()) -> ModelProto:
    """A copy of a float32 network in fp16. Nodes named in keep_fp32 stay, and read the graph's inputs unrounded.

    The converter's own defaults would clip weights into [1e-7, 1e4] and keep whole operators in float32: here weights
    are rounded, tiny ones to zero, and only the named nodes are kept.
    """
    network = copy.deepcopy(network)
    # The converter takes a weight that has a value_info, as torch's exporter gives it, for an fp16 activation.
    del network.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(network, strict_mode=True)
    converted = float16.convert_float_to_float16(
        inferred,
        min_positive_val=0.0,
        max_finite_val=_FP16_MAX,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[],
        node_block_list=list(keep_fp32),
    )
    del converted.graph.value_info[:]
    assert isinstance(converted, ModelProto)
    _read_inputs_unrounded(converted)
    return converted


def _read_inputs_unrounded(converted: ModelProto) -> None:
    """The converter casts an input to fp16 and, for a node kept in float32, back: let that node read the input."""
    graph = converted.graph
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    inputs = {value.name for value in graph.input}
    sources = {}
    for output, node in casts.items():
        before = casts.get(node.input[0])
        if before is not None and before.input[0] in inputs:
            sources[output] = before.input[0]
    for node in graph.node:
        node.input[:] = [sources.get(name, name) for name in node.input]
    # Delete the casts that nothing reads any more.
    while True:
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        unread = [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in read]
        if not unread:
            return
        for node in unread:
            graph.node.remove(node)


def nodes_out_of_range(network: ModelProto) -> dict[str, str]:
    """Node name to reason, for the nodes with a weight that fp16 cannot hold."""
    weights = {tensor.name: tensor for tensor in network.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    reasons: dict[str, str] = {}
    for node in network.graph.node:
        arrays = [numpy_helper.to_array(weights[name]) for name in node.input if name in weights]
        largest = max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)
        if largest > _FP16_MAX:
            reasons[node.name] = f"a weight of {largest:.3g} is beyond the largest fp16 number, {_FP16_MAX:.0f}"
    return reasons
