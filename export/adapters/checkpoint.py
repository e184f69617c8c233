"""A checkpoint of ./ganvas train as a source: the one module of export that imports training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from export.adapters.source import Source
from export.errors import InputError
from training.run.checkpoint import CheckpointError, load_model

__all__ = ["load_checkpoint"]


def load_checkpoint(folder: Path) -> Source:
    """Read a checkpoint folder.

    Raises:
        InputError: missing, truncated, of a newer format, or a pickle.
    """
    try:
        model = load_model(folder)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    info = model.info
    for name, value in info.metrics.items():
        if not math.isfinite(value):
            raise InputError(
                f"{folder} has {name} {value}: training diverged, and its metrics would be certified. Export an "
                "earlier checkpoint, or train again."
            )
    return Source(
        generator=model.generator,
        encoder=model.encoder,
        latent_shape=info.network.latent_shape,
        image=(info.image.height, info.image.width, info.image.channels),
        image_range=info.image.range,
        labels=info.labels,
        family=info.family,
        provenance={
            "checkpoint_sha256": model.sha256,
            "preset": info.preset,
            "dataset": dataclasses.asdict(info.dataset),
            "kimg": info.kimg,
            "metrics": dict(info.metrics),
            "seed": info.seed,
            "git_revision": info.git_revision,
            "torch": info.torch,
        },
    )
