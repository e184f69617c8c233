"""Fill a model configuration in from its graph: inputs, outputs, the largest batch and dynamic batching."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

if TYPE_CHECKING or __package__:
    from serving.backends.onnxruntime import ganvas_session
else:
    import ganvas_session  # Triton puts this folder on the path

__all__ = ["complete"]

DEFAULT_MAX_BATCH_SIZE = 4
"""Triton's own default for its onnxruntime backend."""


def complete(model_config: Any, model_folder: Path) -> None:
    """Add what the configuration does not say.

    Args:
        model_config: Triton's ModelConfig, changed in place.
        model_folder: the folder of the model's file, as Triton's get_model_dir gives it.
    Raises:
        ConfigError: the file cannot be loaded, or the graph cannot do what the configuration says.
        ValueError: the same, in Triton's words.
    """
    config = ganvas_session.Config(model_config.as_dict())
    depth = len(PurePosixPath(config.file_name).parts) - 1
    version_folder = model_folder.parents[depth - 1] if depth else model_folder
    inputs, outputs = _read(ganvas_session.model_file(version_folder, config))
    batched = all(port.dims and port.dims[0] == -1 for port in (*inputs, *outputs))
    if config.max_batch_size > 0 and not batched:
        raise ganvas_session.ConfigError(
            f"max_batch_size is {config.max_batch_size}, but not every input and output of the model has an open first "
            "dimension. Set max_batch_size: 0."
        )
    if batched:
        max_batch_size = config.max_batch_size or DEFAULT_MAX_BATCH_SIZE
        model_config.set_max_batch_size(max_batch_size)
        if max_batch_size > 1 and "sequence_batching" not in model_config.as_dict():
            model_config.set_dynamic_batching()
    for port in inputs:
        model_config.add_input(_entry(port, batched))
    for port in outputs:
        model_config.add_output(_entry(port, batched))


def _read(path: Path) -> tuple[list[ganvas_session.GraphTensor], list[ganvas_session.GraphTensor]]:
    """Inputs and outputs of a graph, without the work of optimizing it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(str(path), options, providers=[ganvas_session.CPU_PROVIDER])
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ganvas_session.ConfigError(f"cannot load {path}: {error}") from None
    return ganvas_session.graph_tensors(session.get_inputs()), ganvas_session.graph_tensors(session.get_outputs())


def _entry(port: ganvas_session.GraphTensor, batched: bool) -> dict[str, Any]:
    return {"name": port.name, "data_type": port.data_type, "dims": port.dims[1:] if batched else port.dims}
