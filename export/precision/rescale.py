"""Scales the weights of two layers by a power of two and its inverse, so that what flows between them fits into half.

Exact: between the two there are only operations with f(s·x) = s·f(x), and a power of two changes no digit. The layers'
function stays as it was, bit for bit in float32, as long as nothing leaves float32's own range.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from export.graph.tensors import from_array, to_array
from export.graph.types import FP16_MAX

__all__ = ["PEAK_LIMIT", "Pair", "choose_exponents", "find_pairs", "rescale"]

PEAK_LIMIT = FP16_MAX / 4
"""The largest activation that an fp16 file may have: seeds that nobody tried may go further than those that were."""

_HOMOGENEOUS = frozenset(
    [
        "AveragePool",
        "DepthToSpace",
        "Flatten",
        "GlobalAveragePool",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "Neg",
        "PRelu",
        "Relu",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ]
)
_SMALLEST, _LARGEST = 2.0**-8, 2.0**15
"""The range for the largest weight of a layer: beyond it, too many of its weights are subnormal or none."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two layers, and what is between them."""

    first: NodeProto
    second: NodeProto
    between: tuple[str, ...]
    """Every value from the first one's output to the second one's input."""
    biases: tuple[str, ...]
    """Constants that are added to those values."""


def find_pairs(network: ModelProto) -> list[Pair]:
    """Layers whose result flows, through operations that a scale passes unchanged, into one other layer alone."""
    weights = {tensor.name for tensor in network.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    readers: dict[str, list[NodeProto]] = {}
    for node in network.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in network.graph.output}
    pairs = []
    for node in network.graph.node:
        if not _is_layer(node, weights):
            continue
        biases = [name for name in node.input[2:] if name]
        between = [node.output[0]]
        while len(readers.get(between[-1], [])) == 1 and between[-1] not in outputs:
            reader = readers[between[-1]][0]
            if _is_layer(reader, weights) and reader.input[0] == between[-1]:
                shared = any(len(readers[name]) > 1 for name in (node.input[1], reader.input[1], *biases))
                if not shared and weights.issuperset(biases):
                    pairs.append(Pair(first=node, second=reader, between=tuple(between), biases=tuple(biases)))
                break
            others = [name for name in reader.input if name and name != between[-1]]
            if reader.op_type == "Add" and len(others) == 1 and others[0] in weights:
                biases.append(others[0])
            elif reader.op_type not in _HOMOGENEOUS or reader.input[0] != between[-1]:
                break
            between.append(reader.output[0])
    return pairs


def choose_exponents(network: ModelProto, peaks: Mapping[str, float]) -> dict[str, int]:
    """For each first layer of a pair that needs it, the smallest exponent that brings both layers into half's range.

    Args:
        peaks: the largest size of each value of the network in float32.
    """
    largest = {
        tensor.name: float(np.abs(to_array(tensor)).max(initial=0.0))
        for tensor in network.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    exponents: dict[str, int] = {}
    for pair in find_pairs(network):
        first, second = pair.first.input[1], pair.second.input[1]
        peak = max(peaks.get(name, 0.0) for name in pair.between)

        def fits(exponent: int, first: str = first, second: str = second, peak: float = peak) -> bool:
            scale = 2.0**exponent
            return (
                _SMALLEST <= largest[first] / scale <= _LARGEST
                and _SMALLEST <= largest[second] * scale <= _LARGEST
                and _SMALLEST <= peak / scale <= PEAK_LIMIT / 2
            )

        needed = not (largest[first] <= FP16_MAX and largest[second] <= FP16_MAX and peak <= PEAK_LIMIT) or (
            0 < min(largest[first], peak) < _SMALLEST
        )
        fitting = [exponent for exponent in range(-60, 61) if fits(exponent)] if needed else []
        if fitting and (exponent := min(fitting, key=abs)):
            exponents[pair.first.name] = exponent
            for name in (first, *pair.biases):
                largest[name] *= 2.0**-exponent
            largest[second] *= 2.0**exponent
    return exponents


def rescale(network: ModelProto, exponents: Mapping[str, int]) -> ModelProto:
    """A copy where each named layer's weights and result are divided by 2^exponent, and the next layer undoes it."""
    network = copy.deepcopy(network)
    if not exponents:
        return network
    tensors = {tensor.name: tensor for tensor in network.graph.initializer}

    def scale(name: str, exponent: int) -> None:
        array = np.ldexp(to_array(tensors[name]), exponent).astype(np.float32)
        tensors[name].CopyFrom(from_array(array, name))

    for pair in find_pairs(network):
        exponent = exponents.get(pair.first.name, 0)
        if exponent:
            for name in (pair.first.input[1], *pair.biases):
                scale(name, -exponent)
            scale(pair.second.input[1], exponent)
    return network


def _is_layer(node: NodeProto, weights: set[str]) -> bool:
    """A product of the first input with a constant."""
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    return node.input[1] in weights and node.input[0] not in weights
