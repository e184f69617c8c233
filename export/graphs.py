"""Every graph of an export, in both precisions, built and held against the sampler contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from onnx import ModelProto

from export.compose import check_graph, join
from export.errors import InputError
from export.fp16 import fp16_network, nodes_out_of_range
from export.network_graph import decoder_graph, encoder_graph
from export.noise_graph import noise_graph
from export.runtime import Graph
from export.source import Source
from export.tail import postprocess_graph, preprocess_graph
from ganvas_core.interface import Interface, interface
from ganvas_core.names import FP16_FILE, FP32_FILE, Role

__all__ = [
    "PRECISIONS",
    "Graphs",
    "Networks",
    "build_graphs",
    "export_networks",
    "fp16_decode",
    "interface_of",
]

PRECISIONS = {FP32_FILE: "fp32", FP16_FILE: "fp16"}


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The trained networks as torch's exporter gives them, in float32."""

    decoder: ModelProto
    """(latent, label) → image."""
    encoder: ModelProto | None
    """image → (mean, logvar)."""


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
    """(seed, truncation) → latent."""
    network: Graph
    """(latent, label) → image, in float32, before the tail."""


def export_networks(source: Source) -> Networks:
    """Take the networks of `source` through torch's exporter.

    Raises:
        GateError: the batch dimension came out as a constant.
    """
    return Networks(
        decoder=decoder_graph(source.generator, latent_shape=source.latent_shape, conditional=bool(source.labels)),
        encoder=None if source.encoder is None else encoder_graph(source.encoder, image=_image(source)),
    )


def build_graphs(source: Source, networks: Networks, *, keep_fp32: Collection[str] = ()) -> Graphs:
    """Join the networks with noise, head and tail, in both precisions.

    Args:
        keep_fp32: network nodes to keep in float32 in the fp16 files.
    Raises:
        GateError: a graph is not what the contract says.
        InputError: keep_fp32 names a node that no network has.
    """
    noise = noise_graph(source.latent_shape)
    decoder, encoder = networks.decoder, networks.encoder
    _check_nodes_exist(keep_fp32, [network for network in (decoder, encoder) if network is not None])
    files: dict[tuple[Role, str], Graph] = {}
    reasons = _kept(decoder, keep_fp32)
    fp32_nodes: dict[Role, dict[str, str]] = {"decode": reasons, "sample": reasons}
    for file_name, network in _precisions(decoder, reasons).items():
        decode = join(network, _tail(source), edge="image_float")
        files["decode", file_name] = _checked(decode, "decode", source)
        files["sample", file_name] = _checked(join(noise, decode, edge="latent"), "sample", source)
    if encoder is not None:
        fp32_nodes["encode"] = _kept(encoder, keep_fp32)
        head = preprocess_graph(_image(source), source.image_range)
        for file_name, network in _precisions(encoder, fp32_nodes["encode"]).items():
            files["encode", file_name] = _checked(join(head, network, edge="image_float"), "encode", source)
    roles: tuple[Role, ...] = ("decode", "sample") if encoder is None else ("decode", "encode", "sample")
    return Graphs(roles=roles, files=files, fp32_nodes=fp32_nodes, noise=Graph(noise), network=Graph(decoder))


def fp16_decode(graphs: Graphs, source: Source, *, keep_fp32: Collection[str]) -> Graph:
    """The fp16 decode graph as it would be with other nodes kept in float32."""
    return Graph(join(fp16_network(graphs.network.model, keep_fp32=keep_fp32), _tail(source), edge="image_float"))


def interface_of(role: Role, source: Source) -> Interface:
    return interface(role, image=_image(source), latent_shape=source.latent_shape, num_labels=len(source.labels))


def _image(source: Source) -> tuple[int, int, int]:
    return source.height, source.width, source.channels


def _tail(source: Source) -> ModelProto:
    return postprocess_graph(_image(source), source.image_range)


def _precisions(network: ModelProto, keep_fp32: Collection[str]) -> dict[str, ModelProto]:
    return {FP32_FILE: network, FP16_FILE: fp16_network(network, keep_fp32=keep_fp32)}


def _kept(network: ModelProto, asked: Collection[str]) -> dict[str, str]:
    """Node name to reason: those that half cannot hold, and those asked for."""
    names = {node.name for node in network.graph.node}
    return {name: "asked for with --fp32-node" for name in asked if name in names} | nodes_out_of_range(network)


def _checked(model: ModelProto, role: Role, source: Source) -> Graph:
    check_graph(model, interface_of(role, source))
    return Graph(model)


def _check_nodes_exist(names: Collection[str], networks: Collection[ModelProto]) -> None:
    existing = [node.name for network in networks for node in network.graph.node]
    for name in names:
        if name not in existing:
            raise InputError(f"--fp32-node {name} is not a node of the network. It has: {', '.join(existing)}.")
