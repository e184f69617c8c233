"""A trained network as an ONNX graph: batch norm folded, exported by torch, metadata stripped.

Inputs and outputs carry the contract's names, in float32: (latent, truncation, label) → image_float, and image_float →
(mean, logvar).
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor, nn

from export.adapters.call import ANY_ERROR
from export.adapters.source import Source
from export.errors import GateError, InputError
from export.graph.tensors import from_array, load_graph, to_array, weights_folder
from export.graph.writer import BATCH, OPSET, new_model
from export.surgery.batch_norm import fold_batch_norm

__all__ = ["encoder_graph", "generator_inputs", "network_graph", "wrap_generator"]

_EXAMPLE_BATCH = 2
"""A batch of one would be taken for a constant."""


class _Unconditional(nn.Module):
    """(latent, truncation [N, 1]) → images, of a network that may have a truncation of its own or none."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.network = source.generator
        self.scales_latent = source.truncation == "latent"
        self.latent_ndim = len(source.latent_shape)

    def forward(self, latent: Tensor, truncation: Tensor) -> Any:
        return self.network(*self.arguments(latent, truncation))

    def arguments(self, latent: Tensor, truncation: Tensor) -> tuple[Tensor, ...]:
        if not self.scales_latent:
            return latent, truncation
        scale = truncation if self.latent_ndim == 1 else truncation.reshape(-1, *[1] * self.latent_ndim)
        return (latent * scale,)


class _Placed(nn.Module):
    """(latent, label) → images, of a source with a prior: its latents hold the truncation."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.network = source.generator

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Any:
        return self.network(latent) if label is None else self.network(latent, label.squeeze(1))


class _Conditional(_Unconditional):
    """The contract's label is [N, 1] int64; a network's is [N]."""

    def forward(self, latent: Tensor, truncation: Tensor, label: Tensor) -> Any:  # type: ignore[override]
        return self.network(*self.arguments(latent, truncation), label.squeeze(1))


def wrap_generator(source: Source) -> nn.Module:
    """A network that takes what generator_inputs names: truncation and label as [N, 1] → images [N, C, H, W]."""
    if source.prior is not None:
        return _Placed(source)
    return _Conditional(source) if source.labels else _Unconditional(source)


def generator_inputs(source: Source) -> list[str]:
    """The inputs of the network's graph, in order."""
    label = ["label"] if source.labels else []
    return ["latent", *label] if source.prior is not None else ["latent", "truncation", *label]


def network_graph(source: Source) -> ModelProto:
    """The model generator_inputs → image_float float32 [N, C, H, W].

    Raises:
        GateError: the exporter made the batch dimension a constant.
    """
    examples = {
        "latent": torch.zeros(_EXAMPLE_BATCH, *source.latent_shape),
        "truncation": torch.ones(_EXAMPLE_BATCH, 1),
        "label": torch.zeros(_EXAMPLE_BATCH, 1, dtype=torch.int64),
    }
    inputs = generator_inputs(source)
    example = tuple(examples[name] for name in inputs)
    model = _export(fold_batch_norm(wrap_generator(source)), example, inputs=inputs, outputs=["image_float"])
    # The exporter may read the size of the batch from any input, and decode has no truncation.
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] == "truncation":
            node.input[0] = "latent"
    return model


def encoder_graph(encoder: nn.Module, *, image: tuple[int, int, int]) -> ModelProto:
    """The model image_float float32 [N, C, H, W] → (mean, logvar) float32 [N, *latent_shape] each.

    Raises:
        GateError: the exporter made the batch dimension a constant.
    """
    height, width, channels = image
    example = (torch.zeros(_EXAMPLE_BATCH, channels, height, width),)
    return _export(fold_batch_norm(encoder), example, inputs=["image_float"], outputs=["mean", "logvar"])


def _export(network: nn.Module, example: tuple[Tensor, ...], *, inputs: list[str], outputs: list[str]) -> ModelProto:
    batch = torch.export.Dim(BATCH, min=1)
    try:
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
            model = _without_metadata(_graph_of(program))
    except OSError:  # of the files that the weights go to
        raise
    except ANY_ERROR as error:  # the exporter has many, and those of the network's own code
        raise InputError(_explain(error)) from None
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim[0].dim_param != BATCH:
            raise GateError(
                f"the batch dimension of {value.name} came out of torch's exporter as a constant: forward uses the "
                "batch size as a number (x.shape[0] in a comparison, an assert or a loop). Write -1 or x.size(0) there."
            )
    return model


def _graph_of(program: torch.onnx.ONNXProgram) -> ModelProto:
    """The graph, with its weights in files where there is a folder for them."""
    folder = weights_folder()
    if folder is None:
        return program.model_proto
    with tempfile.TemporaryDirectory(dir=folder) as name:
        program.save(Path(name) / "network.onnx", external_data=True)
        model = load_graph(Path(name) / "network.onnx")
        for tensor in model.graph.initializer:  # each into a file of its own, so that what is not used can go
            tensor.CopyFrom(from_array(to_array(tensor), tensor.name))
    return model


def _without_metadata(model: ModelProto) -> ModelProto:
    """The same graph with nodes named after their modules, and metadata stripped: stack traces hold local paths."""
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
    path = [part for part in path if part != "_empty_nn_module_stack_from_metadata_hook"]  # of sizes: no module's
    module = max(path, key=len, default="").removeprefix("network").lstrip(".")
    stem = f"network/{module}/{op_type}" if module else f"network/{op_type}"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def _explain(error: BaseException) -> str:
    """The exporter's own message, shortened, and the first operation or line of forward to blame."""
    texts = [str(error)]
    while error.__cause__ is not None:
        error = error.__cause__
        texts.append(str(error))
    blamed = ""
    for pattern, words in _BLAMED:
        if found := next((match for text in texts if (match := re.search(pattern, text))), None):
            blamed = f" at {words.format(*found.groups())}"
            break
    reason = next((line.strip() for line in texts[-1].splitlines() if line.strip()), type(error).__name__)
    return (
        f"torch cannot export the network{blamed}: {reason[:240].rstrip('.')}. Write forward with tensor operations "
        "alone, without branches on values."
    )


_BLAMED = (
    (r'File "[^"]*?([^/"]+)", line (\d+), in \w+\n\s*(.+)', "`{2}` ({0}, line {1})"),
    (r"op='([\w.]+)'", "{0}"),
    (r"target=torch\.ops\.([\w.]+)", "{0}"),
    (r"While executing %\w+ : .*?target=(\w+)", "{0}"),
)
"""Where the exporter's messages name what they stumbled over, the best first."""


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's warnings about its own code, and the graphs that it prints when it fails."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        silence = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="# The axis name")
            yield
    finally:
        logging.disable(level)
