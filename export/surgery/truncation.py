"""The truncation input of a network graph: which nodes compute on it, and how to do without it."""

from __future__ import annotations

import copy

import numpy as np
from onnx import ModelProto, NodeProto

from export.graph.tensors import from_array

__all__ = ["bind_truncation", "truncation_nodes"]

_SHAPE_ONLY = {"Reshape", "Unsqueeze", "Expand", "Identity"}


def truncation_nodes(network: ModelProto) -> list[NodeProto]:
    """The nodes from the input `truncation` up to the first arithmetic on it, that included."""
    values, found = {"truncation"}, []
    for node in network.graph.node:
        if values & set(node.input):
            found.append(node)
            if node.op_type in _SHAPE_ONLY:
                values |= set(node.output)
    return found


def bind_truncation(network: ModelProto) -> ModelProto:
    """A copy without the input `truncation`: it is 1.

    A product of the latent and the truncation goes away, which is exact, since x * 1 is x.
    """
    network = copy.deepcopy(network)
    graph = network.graph
    nodes = truncation_nodes(network)
    inputs = [value for value in graph.input if value.name != "truncation"]
    del graph.input[:]
    graph.input.extend(inputs)
    scale = nodes[-1] if nodes else None
    if scale is not None and scale.op_type == "Mul" and "latent" in scale.input:
        for node in graph.node:
            node.input[:] = ["latent" if name == scale.output[0] else name for name in node.input]
        kept = [node for node in graph.node if node not in nodes]
        del graph.node[:]
        graph.node.extend(kept)
        used = {name for node in kept for name in node.input}
        weights = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(weights)
        gone = {name for node in nodes for name in node.output}
        described = [value for value in graph.value_info if value.name not in gone]
        del graph.value_info[:]
        graph.value_info.extend(described)
    else:
        graph.initializer.append(from_array(np.ones((1, 1), np.float32), "truncation"))
    return network
