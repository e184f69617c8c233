"""A checkpoint of ./ganvas train as a source: the one module of export that imports training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Literal

from export.adapters.source import Source
from export.errors import InputError
from training.run.checkpoint import CheckpointError, load_model

__all__ = ["load_checkpoint"]


def load_checkpoint(folder: Path, *, prior: Literal["auto", "normal", "mixture"] = "auto") -> Source:
    """Read a checkpoint folder.

    Args:
        prior: what latents are drawn from; auto: as the checkpoint has it.

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
    mixture = None if prior == "normal" else model.prior
    if prior == "mixture" and mixture is None:
        raise InputError(f"--prior mixture: {folder} has none. Train it with --set network.prior_components=10.")
    return Source(
        generator=model.generator,
        encoder=model.encoder,
        latent_shape=info.network.latent_shape,
        image=(info.image.height, info.image.width, info.image.channels),
        image_range=info.image.range,
        may_leave_range=True,  # a family without a last tanh
        labels=info.labels,
        prior=mixture,
        family=info.family,
        provenance={
            "checkpoint_sha256": model.sha256,
            "preset": info.preset,
            "dataset": dataclasses.asdict(info.dataset),
            "kimg": info.kimg,
            "metrics": dict(info.metrics),
            "seed": info.seed,
            "trained_with_features": list(info.trained_with_features),
            "git_revision": info.git_revision,
            "torch": info.torch,
        },
    )
