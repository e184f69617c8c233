"""Every graph of an export, in both precisions, built and checked against the sampler contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from onnx import ModelProto

from export.adapters.source import Source
from export.errors import InputError
from export.graph.compose import check_graph, join
from export.graph.images import postprocess_graph, preprocess_graph
from export.graph.network import encoder_graph, network_graph
from export.graph.noise import noise_graph
from export.graph.writer import Graph
from export.surgery.fp16 import fp16_network, nodes_out_of_range
from export.surgery.truncation import bind_truncation, truncation_nodes
from ganvas_core.names import FP16_FILE, FP32_FILE, Role

__all__ = ["PRECISIONS", "Graphs", "Networks", "build_graphs", "export_networks", "fp16_decode"]

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
    fp32_nodes: Mapping[Role, dict[str, str]]
    """The nodes of each role's fp16 file that are kept in float32, and why."""
    noise: Graph
    """seed → latent."""
    network: Graph
    """(latent, truncation, label) → image_float, in float32."""
    decoder: ModelProto
    """(latent, label) → image_float, in float32: the network with truncation 1."""


def export_networks(source: Source) -> Networks:
    """Take the networks of `source` through torch's exporter.

    Raises:
        GateError: the batch dimension came out as a constant.
    """
    encoder = None if source.encoder is None else encoder_graph(source.encoder, image=source.image)
    return Networks(generator=network_graph(source), encoder=encoder)


def build_graphs(source: Source, networks: Networks, *, keep_fp32: Collection[str] = ()) -> Graphs:
    """Join the networks with noise and image conversion, in both precisions.

    Args:
        keep_fp32: network nodes to keep in float32 in the fp16 files.
    Raises:
        GateError: a graph is not what the contract says.
        InputError: keep_fp32 names a node that no network has.
    """
    sampler, encoder = networks.generator, networks.encoder
    decoder = bind_truncation(sampler)

    # Check that every node to keep exists.
    existing = [node.name for network in (sampler, encoder) if network is not None for node in network.graph.node]
    for name in keep_fp32:
        if name not in existing:
            raise InputError(f"--fp32-node {name} is not a node of the network. It has: {', '.join(existing)}.")

    # Join sampler and decode. What computes on the truncation stays in float32, as it does outside of the graph: so
    # sample(seed, truncation) has the bytes of decode(latent(seed) * truncation).
    noise = noise_graph(source.latent_shape)
    postprocess = postprocess_graph(source.image, source.image_range)
    fp32_nodes: dict[Role, dict[str, str]] = {"decode": _fp32_nodes(decoder, keep_fp32)}
    exact = {node.name: "computes on the truncation" for node in truncation_nodes(sampler)}
    fp32_nodes["sample"] = exact | _fp32_nodes(sampler, keep_fp32)
    models: dict[tuple[Role, str], ModelProto] = {}
    for file_name, network in _precisions(decoder, fp32_nodes["decode"]).items():
        models["decode", file_name] = join(network, postprocess, edge="image_float")
    for file_name, network in _precisions(sampler, fp32_nodes["sample"]).items():
        images = join(network, postprocess, edge="image_float")
        models["sample", file_name] = join(noise, images, edge="latent")

    # Join encode.
    roles: tuple[Role, ...] = ("decode", "sample")
    if encoder is not None:
        roles = ("decode", "encode", "sample")
        fp32_nodes["encode"] = _fp32_nodes(encoder, keep_fp32)
        preprocess = preprocess_graph(source.image, source.image_range)
        for file_name, network in _precisions(encoder, fp32_nodes["encode"]).items():
            models["encode", file_name] = join(preprocess, network, edge="image_float")

    for (role, _), model in models.items():
        check_graph(model, source.interface(role))
    return Graphs(
        roles=roles,
        files={key: Graph(model) for key, model in models.items()},
        fp32_nodes=fp32_nodes,
        noise=Graph(noise),
        network=Graph(sampler),
        decoder=decoder,
    )


def fp16_decode(graphs: Graphs, source: Source, *, keep_fp32: Collection[str]) -> Graph:
    """The fp16 decode graph as it would be with other nodes kept in float32."""
    postprocess = postprocess_graph(source.image, source.image_range)
    return Graph(join(fp16_network(graphs.decoder, keep_fp32=keep_fp32), postprocess, edge="image_float"))


def _precisions(network: ModelProto, keep_fp32: Collection[str]) -> dict[str, ModelProto]:
    return {FP32_FILE: network, FP16_FILE: fp16_network(network, keep_fp32=keep_fp32)}


def _fp32_nodes(network: ModelProto, asked: Collection[str]) -> dict[str, str]:
    """Node name to reason: those that fp16 cannot hold, and those asked for."""
    names = {node.name for node in network.graph.node}
    return {name: "asked for with --fp32-node" for name in asked if name in names} | nodes_out_of_range(network)
