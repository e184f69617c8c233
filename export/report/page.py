"""Writes report.html of a version: one file that needs nothing else, from the template beside this module."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, shape_inference

from export.graph.build import Graphs
from export.proof.prove import Proof
from export.surgery.simplify import Change
from ganvas_core.certificate import Certificate
from ganvas_core.names import FP16_FILE, FP32_FILE
from ganvas_core.provenance import encode_image, image_text

__all__ = ["GraphFigures", "graph_figures", "report_html"]

_AMPLIFICATION = 32
_NUM_RANDOM = 5
_STEPS = {
    "drop_dead": "dropped: what nothing reads",
    "fold_constants": "computed once, now: what depends on no input, such as scales of weights",
    "symmetric_padding": "padding of transposed convolutions made even, as CUDA wants it",
}


@dataclass(frozen=True, kw_only=True)
class GraphFigures:
    """What a network is made of."""

    num_nodes: int
    num_parameters: int
    num_flops: int
    """Of one image: multiplications and additions of convolutions and products alone."""
    num_bytes: int
    """Of the weights."""
    operators: dict[str, int]


def report_html(
    certificate: Certificate,
    graphs: Graphs,
    proof: Proof,
    *,
    changes: Sequence[Change] = (),
    rewritten: Mapping[str, str] | None = None,
) -> str:
    """The page of the sampler's version.

    Args:
        certificate: without the report itself among its attachments.
        changes: what surgery did to the networks.
        rewritten: nodes written another way to be batch-invariant, and how.
    """
    environment = Environment(
        loader=PackageLoader("export.report", "."),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    networks = {FP32_FILE: graph_figures(graphs.network.model)}
    if FP16_FILE in certificate.files:
        networks[FP16_FILE] = graph_figures(_network_alone(graphs.files["sample", FP16_FILE].model))
    return environment.get_template("page.html").render(
        certificate=certificate,
        networks=networks,
        operators=sorted({name for figures in networks.values() for name in figures.operators}),
        rows=_rows(proof),
        kept=_by_reason(certificate.files[FP16_FILE].fp32_nodes) if FP16_FILE in certificate.files else [],
        fp32=FP32_FILE,
        fp16=FP16_FILE,
        amplification=_AMPLIFICATION,
        changes=[(_STEPS.get(change.step, change.step), change) for change in changes],
        rewritten=rewritten or {},
    )


def _by_reason(nodes: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    reasons: dict[str, list[str]] = {}
    for node, reason in nodes.items():
        reasons.setdefault(reason, []).append(node)
    return list(reasons.items())


def graph_figures(network: ModelProto) -> GraphFigures:
    """Nodes, parameters, floating point operations and bytes."""
    inferred = shape_inference.infer_shapes(network, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in network.graph.initializer}
    floats = [
        tensor for tensor in network.graph.initializer if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
    ]
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in floats}
    num_bytes = sum(
        size * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor, size in zip(floats, sizes.values(), strict=True)
    )
    return GraphFigures(
        num_nodes=len(network.graph.node),
        num_parameters=sum(sizes.values()),
        num_flops=sum(_flops(node, shapes | weights) for node in network.graph.node),
        num_bytes=num_bytes,
        operators=dict(Counter(node.op_type for node in network.graph.node)),
    )


def _flops(node: Any, shapes: dict[str, list[int]]) -> int:
    """Twice the number of multiplications of one image."""
    known = [shapes.get(name) for name in (*node.input[:2], *node.output[:1])]
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or None in known:
        return 0
    given, weight, made = (shape or [] for shape in known)
    if node.op_type == "Conv":
        return 2 * int(np.prod(made)) * int(np.prod(weight[1:]))
    if node.op_type == "ConvTranspose":
        return 2 * int(np.prod(given)) * int(np.prod(weight[1:]))
    return 2 * int(np.prod(made)) * given[-1]


def _network_alone(model: ModelProto) -> ModelProto:
    """A file's graph without noise and image conversion."""
    alone = ModelProto()
    alone.CopyFrom(model)
    nodes = [node for node in model.graph.node if node.name.split("/")[0] not in ("noise", "postprocess")]
    read = {name for node in nodes for name in node.input}
    del alone.graph.node[:]
    alone.graph.node.extend(nodes)
    weights = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del alone.graph.initializer[:]
    alone.graph.initializer.extend(weights)
    del alone.graph.value_info[:]
    alone.graph.value_info.extend(shape_inference.infer_shapes(model).graph.value_info)
    made = {name for node in nodes for name in node.output}
    del alone.graph.output[:]
    alone.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sorted(made - read))
    inner = [value for value in alone.graph.value_info if value.name not in made - read]
    del alone.graph.value_info[:]
    alone.graph.value_info.extend(inner)
    return alone


def _rows(proof: Proof) -> list[dict[str, str]]:
    """Images as data URLs: the case where fp16 is furthest from fp32 first, then some of the others."""
    if not proof.half:
        return [
            {"title": proof.cases.describe(row), "fp32": _png(proof.images[FP32_FILE][row])}
            for row in range(min(_NUM_RANDOM, len(proof.cases)))
        ]
    images = proof.half["sample"].images
    assert images is not None
    rows = []
    for place, (title, half, exact) in enumerate(zip(images.titles, images.half, images.torch, strict=True)):
        difference = np.abs(half.astype(np.int16) - exact.astype(np.int16))
        rows.append(
            {
                "title": f"Worst: {title}" if place == 0 else title,
                "fp32": _png(exact),
                "fp16": _png(half),
                "difference": _png(np.minimum(difference * _AMPLIFICATION, 255).astype(np.uint8)),
                "figures": f"max {difference.max()}, mean {difference.mean():.4f} levels",
            }
        )
    return rows


def _png(image: NDArray[np.uint8]) -> str:
    data = encode_image(image, "png", image_text("AI-generated: an image of the report.", {}))
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
