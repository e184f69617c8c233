"""The source that the options of `export` name: a checkpoint of ./ganvas train, an adapter file, or a ready adapter."""

from __future__ import annotations

from pathlib import Path

from export.adapters.check import check_source
from export.adapters.checkpoint import load_checkpoint
from export.adapters.file import load_adapter_file, source_of
from export.adapters.ready import READY, Request
from export.adapters.source import Source
from export.errors import InputError
from export.options import CheckpointExportOptions
from ganvas_core.certificate import file_sha256

__all__ = ["load_source"]


def load_source(options: CheckpointExportOptions) -> Source:
    """Load the network, and hold it against what is said of it.

    Raises:
        InputError: it cannot be read, or does not do what its spec says.
    """
    if options.checkpoint is not None:
        return load_checkpoint(options.checkpoint, prior=options.prior)
    assert options.adapter is not None
    if options.adapter in READY:
        source = _ready(options.adapter, options)
    elif options.adapter.endswith(".py"):
        if options.image_size is not None:
            raise InputError("--image-size is for ready adapters; an adapter file says it in its Spec.")
        source = load_adapter_file(Path(options.adapter), options.weights, trust_pickle=options.trust_pickle)
    else:
        raise InputError(
            f"--adapter must be a Python file, or one of {', '.join(READY)}; got {options.adapter!r}. "
            "`./ganvas export --adapter` shows an example."
        )
    check_source(source)
    return source


def _ready(name: str, options: CheckpointExportOptions) -> Source:
    if options.weights is None:
        raise InputError(f"--adapter {name} needs --weights. docs/adapters.md says which file.")
    size = None
    if options.image_size is not None:
        height, width = options.image_size.split("x")
        size = (int(height), int(width))
    request = Request(weights=options.weights, image_size=size, trust_pickle=options.trust_pickle)
    network, spec = READY[name](request)
    if size is not None and spec.image[:2] != size:
        raise InputError(
            f"--image-size is not for --adapter {name}: its weights make images of {spec.image[0]}x{spec.image[1]}."
        )
    file = options.weights if options.weights.is_file() else None
    provenance = {"adapter": name, "weights": options.weights.name}
    if file is not None:
        provenance |= {"weights_sha256": file_sha256(file)}
    return source_of(network, spec, family=name, provenance=provenance)
