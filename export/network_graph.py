"""A trained network as an ONNX graph: batch norm folded away, then torch's exporter, then nothing that is not ours.

Inputs and outputs carry the contract's names, in float32: (latent, label) → image, and image → (mean, logvar).
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from export.errors import GateError
from export.graph_writer import BATCH, OPSET, new_model

__all__ = ["decoder_graph", "encoder_graph", "fold_batch_norm"]

_EXAMPLE_BATCH = 2
"""A batch of one would be taken for a constant."""


class _Conditional(nn.Module):
    """The contract's label is [N, 1] int64; a network's is [N]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, latent: Tensor, label: Tensor) -> Any:
        return self.network(latent, label.squeeze(1))


class _Unconditional(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, latent: Tensor) -> Any:
        return self.network(latent)


def decoder_graph(generator: nn.Module, *, latent_shape: tuple[int, ...], conditional: bool) -> ModelProto:
    """The model (latent float32 [N, Z], label int64 [N, 1] where conditional) → image float32 [N, C, H, W].

    Raises:
        GateError: the exporter made the batch dimension a constant, or left something the graph must not have.
    """
    example: tuple[Tensor, ...] = (torch.zeros(_EXAMPLE_BATCH, *latent_shape),)
    if conditional:
        example += (torch.zeros(_EXAMPLE_BATCH, 1, dtype=torch.int64),)
    network = _Conditional(generator) if conditional else _Unconditional(generator)
    return _export(
        fold_batch_norm(network), example, inputs=["latent", "label"][: len(example)], outputs=["image_float"]
    )


def encoder_graph(encoder: nn.Module, *, image: tuple[int, int, int]) -> ModelProto:
    """The model image float32 [N, C, H, W] → (mean, logvar) float32 [N, Z] each.

    Raises:
        GateError: as decoder_graph.
    """
    height, width, channels = image
    example = (torch.zeros(_EXAMPLE_BATCH, channels, height, width),)
    return _export(fold_batch_norm(encoder), example, inputs=["image_float"], outputs=["mean", "logvar"])


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of `network` with every batch norm that follows a convolution folded into its weights, in float64.

    The network is in eval mode and stays as it was.
    """
    traced = fx.symbolic_trace(copy.deepcopy(network).eval().double())
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = modules.get(node.target) if node.op == "call_module" else None
        before = node.args[0] if node.args else None
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        convolution = modules.get(str(before.target))
        if isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d) and len(before.users) == 1:
            _fold(convolution, norm)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    traced.delete_all_unused_submodules()
    return traced.float().eval()


def _fold(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=isinstance(convolution, nn.ConvTranspose2d),
    )


def _export(network: nn.Module, example: tuple[Tensor, ...], *, inputs: list[str], outputs: list[str]) -> ModelProto:
    batch = torch.export.Dim(BATCH, min=1)
    with torch.inference_mode(False), torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=tuple({0: batch} for _ in example),
            input_names=inputs,
            output_names=outputs,
            verbose=False,
        )
    assert program is not None
    model = _without_traces(program.model_proto)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim[0].dim_param != BATCH:
            raise GateError(f"the batch dimension of {value.name} came out of torch's exporter as a constant.")
    return model


def _without_traces(model: ModelProto) -> ModelProto:
    """The same graph with nodes named after their modules, and no stack traces, which hold this machine's paths."""
    graph = model.graph
    taken: set[str] = set()
    for node in graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
        name = _node_name(scopes, node.op_type, taken)
        taken.add(name)
        node.name = name
        node.doc_string = ""
        del node.metadata_props[:]
    described: list[Any] = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for value in described:
        value.doc_string = ""
        del value.metadata_props[:]
    graph.name = "network"
    graph.doc_string = ""
    del graph.metadata_props[:]
    return new_model(graph)


def _node_name(scopes: str, op_type: str, taken: set[str]) -> str:
    """`network/blocks.3/ConvTranspose`, numbered from the second such node on."""
    path = [part.strip("'\" ") for part in scopes.strip("[]").split(",")][:-1]
    module = max(path, key=len, default="").removeprefix("network").lstrip(".")
    stem = f"network/{module}/{op_type}" if module else f"network/{op_type}"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's remarks on its own insides, which no one who exports a model can act on."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="# The axis name")
            yield
    finally:
        logger.setLevel(level)
