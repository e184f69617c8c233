"""Every graph of an export, in both precisions, built and checked against the sampler contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import ModelProto

from export.adapters.source import Source
from export.graph.compose import check_graph, join
from export.graph.images import postprocess_graph, preprocess_graph
from export.graph.network import encoder_graph, network_graph
from export.graph.noise import noise_graph
from export.graph.writer import Graph
from export.precision.plan import Plan, apply_plan
from export.surgery.truncation import bind_truncation
from ganvas_core.names import FP16_FILE, FP32_FILE, Role

__all__ = ["PRECISIONS", "Graphs", "Networks", "add_fp16_files", "build_graphs", "export_networks"]

PRECISIONS = {FP32_FILE: "fp32", FP16_FILE: "fp16"}


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The trained networks as torch's exporter gives them, in float32."""

    generator: ModelProto
    """(latent, truncation, label) → image_float."""
    encoder: ModelProto | None
    """image_float → (mean, logvar)."""
    rewritten: Mapping[str, str] = field(default_factory=dict)
    """Nodes that were written another way to be batch-invariant, and how."""


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """What is published, and the parts that the proof runs by themselves."""

    roles: tuple[Role, ...]
    """In the order of publishing: companions first."""
    files: Mapping[tuple[Role, str], Graph]
    """By role and file name."""
    plans: Mapping[Role, Plan]
    """How each role's fp16 file is written; empty without one."""
    noise: Graph
    """seed → latent."""
    network: Graph
    """(latent, truncation, label) → image_float, in float32."""
    encoder: Graph | None
    """image_float → (mean, logvar), in float32."""


def export_networks(source: Source) -> Networks:
    """Take the networks of `source` through torch's exporter.

    Raises:
        GateError: the batch dimension came out as a constant.
    """
    encoder = None if source.encoder is None else encoder_graph(source.encoder, image=source.image)
    return Networks(generator=network_graph(source), encoder=encoder)


def build_graphs(source: Source, networks: Networks) -> Graphs:
    """Join the networks with noise and image conversion, in float32.

    Raises:
        GateError: a graph is not what the contract says.
    """
    noise = noise_graph(source.latent_shape, source.prior)
    encoder = networks.encoder
    models = _join(source, noise, networks.generator, bind_truncation(networks.generator), encoder)
    return Graphs(
        roles=("decode", "sample") if encoder is None else ("decode", "encode", "sample"),
        files={(role, FP32_FILE): Graph(model) for role, model in models.items()},
        plans={},
        noise=Graph(noise),
        network=Graph(networks.generator),
        encoder=None if encoder is None else Graph(encoder),
    )


def add_fp16_files(source: Source, graphs: Graphs, generator: Plan, encoder: Plan) -> Graphs:
    """The same graphs with fp16 files, written as the plans say.

    Raises:
        GateError: an fp16 graph is not what the contract says.
    """
    network = graphs.network.model
    decoder = bind_truncation(network)
    posterior = None if graphs.encoder is None else apply_plan(graphs.encoder.model, encoder)
    models = _join(
        source, graphs.noise.model, apply_plan(network, generator), apply_plan(decoder, generator), posterior
    )
    return dataclasses.replace(
        graphs,
        files=dict(graphs.files) | {(role, FP16_FILE): Graph(model) for role, model in models.items()},
        plans={role: encoder if role == "encode" else generator for role in graphs.roles},
    )


def _join(
    source: Source, noise: ModelProto, network: ModelProto, decoder: ModelProto, encoder: ModelProto | None
) -> dict[Role, ModelProto]:
    """The graph of each role, checked against the contract."""
    postprocess = postprocess_graph(source.image, source.image_range)
    models: dict[Role, ModelProto] = {
        "decode": join(decoder, postprocess, edge="image_float"),
        "sample": join(noise, join(network, postprocess, edge="image_float"), edge="latent"),
    }
    if encoder is not None:
        preprocess = preprocess_graph(source.image, source.image_range)
        models["encode"] = join(preprocess, encoder, edge="image_float")
    for role, model in models.items():
        check_graph(model, source.interface(role))
    return models
