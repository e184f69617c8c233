"""Which nodes of a network stay in float32 in its fp16 file, and which weights are rescaled: what a rule decides.

The rule keeps in float32 what is cheap there and harmful in half: statistics of normalisations, and the activation that
makes the image. What it misses, the search finds (search.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from onnx import ModelProto, NodeProto

from export.graph.guards import lacks_half_kernel
from export.precision.rescale import rescale
from export.surgery.fp16 import clipped_weights, fp16_network, has_fp16_form, is_exact, nodes_out_of_range
from export.surgery.truncation import truncation_nodes

__all__ = ["Plan", "apply_plan", "clipped_by", "plan_by_rule", "rounding_nodes"]

_NORMALISATIONS = frozenset(
    [
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LpNormalization",
        "MeanVarianceNormalization",
    ]
)
_REDUCTIONS = frozenset(["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMean", "ReduceSum", "ReduceSumSquare"])
_ON_STATISTICS = frozenset(
    [
        "Add",
        "Clip",
        "Div",
        "Identity",
        "Max",
        "Mul",
        "Pow",
        "Reciprocal",
        "Reshape",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Unsqueeze",
    ]
)
_ACTIVATIONS = frozenset(
    [
        "Add",
        "Clip",
        "Div",
        "Erf",
        "HardSigmoid",
        "Identity",
        "LeakyRelu",
        "Mul",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Sub",
        "Tanh",
    ]
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one network is written in fp16."""

    kept: Mapping[str, str] = field(default_factory=dict)
    """Node kept in float32, to the reason."""
    exponents: Mapping[str, int] = field(default_factory=dict)
    """Node whose weights and result are divided by 2^exponent, which the next node with weights undoes exactly."""
    clip: bool = False
    """Whether weights beyond half's range are clipped; else their nodes are kept."""


def plan_by_rule(network: ModelProto, *, keep_fp32: Collection[str] = (), clip: bool = False) -> Plan:
    """Where the search starts.

    Args:
        keep_fp32: nodes that were asked for.
        clip: clip weights beyond half's range, which keeps their nodes in half.
    """
    weights = {tensor.name for tensor in network.graph.initializer}
    existing = {node.name for node in network.graph.node}
    # What computes on the truncation stays in float32, as it does outside of the graph: so sample(seed, truncation)
    # has the bytes of decode(latent(seed) * truncation).
    kept = {node.name: "computes on the truncation" for node in truncation_nodes(network)}
    kept |= {node.name: "statistics of a normalisation" for node in _statistics(network, weights)}
    kept |= {node.name: "the activation that makes the output" for node in _final_activation(network, weights)}
    kept |= {node.name: "has no fp16 form" for node in network.graph.node if not has_fp16_form(node)}
    kept |= {node.name: "has no fp16 kernel in CUDA" for node in network.graph.node if lacks_half_kernel(node.op_type)}
    kept |= {} if clip else nodes_out_of_range(network)
    return Plan(kept=kept | {name: "asked for with --fp32-node" for name in keep_fp32 if name in existing}, clip=clip)


def apply_plan(network: ModelProto, plan: Plan) -> ModelProto:
    """The fp16 network that a plan describes. Nodes of the plan that the network lacks are passed over."""
    return fp16_network(rescale(network, plan.exponents), keep_fp32=plan.kept, clip=plan.clip)


def clipped_by(network: ModelProto, plan: Plan) -> dict[str, str]:
    """What apply_plan clips: weight name to how much of it."""
    return clipped_weights(rescale(network, plan.exponents), keep_fp32=plan.kept) if plan.clip else {}


def rounding_nodes(network: ModelProto, plan: Plan) -> list[NodeProto]:
    """The nodes that round what they make, where the plan leaves them in half."""
    return [node for node in network.graph.node if node.name not in plan.kept and not is_exact(node)]


def _statistics(network: ModelProto, weights: Collection[str]) -> Iterator[NodeProto]:
    """Normalisations, sums over a dimension, what squares for them, and what computes on statistics alone."""
    nodes = list(network.graph.node)
    summed = {name for node in nodes if node.op_type in _REDUCTIONS for name in node.input[:1]}
    statistics: set[str] = set()
    for node in nodes:
        read = [name for name in node.input if name and name not in weights]
        squares = node.op_type == "Pow" or (node.op_type == "Mul" and len(set(node.input)) == 1)
        if (
            node.op_type in _NORMALISATIONS | _REDUCTIONS
            or (squares and summed & set(node.output))
            or (node.op_type in _ON_STATISTICS and read and statistics.issuperset(read))
        ):
            if node.op_type not in _NORMALISATIONS:
                statistics.update(node.output)
            yield node


def _final_activation(network: ModelProto, weights: Collection[str]) -> Iterator[NodeProto]:
    """The nodes from the last weighted one (excluded) to each output, as far as they form one chain."""
    makers = {name: node for node in network.graph.node for name in node.output}
    for value in network.graph.output:
        node = makers.get(value.name)
        while node is not None and node.op_type in _ACTIVATIONS:
            yield node
            read = [name for name in node.input if name and name not in weights]
            node = makers.get(read[0]) if len(read) == 1 else None
