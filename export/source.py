"""The checkpoint to export: the one module here that imports training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from export.errors import InputError
from ganvas_core.names import Role
from training.run.checkpoint import CheckpointError, load_model

__all__ = ["Source", "load_source"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A trained model, in eval mode on the CPU, and what its certificate says of it."""

    family: str
    """For people to read."""
    height: int
    width: int
    channels: int
    image_range: tuple[float, float]
    """Of what the network makes: [-1, 1] for a GAN, [0, 1] for a VAE."""
    latent_shape: tuple[int, ...]
    labels: tuple[str, ...]
    """Empty: unconditional."""
    generator: nn.Module
    """(z [N, Z] float32, label [N] int64 where conditional) → [N, C, H, W] float32 in image_range."""
    encoder: nn.Module | None
    """x [N, C, H, W] float32 in image_range → mean [N, Z], logvar [N, Z]."""
    provenance: dict[str, Any]
    """Plain JSON: where the weights came from."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return ("sample", "decode") if self.encoder is None else ("sample", "decode", "encode")


def load_source(checkpoint: Path) -> Source:
    """Read a checkpoint folder.

    Raises:
        InputError: missing, truncated, of a newer format, or a pickle.
    """
    try:
        model = load_model(checkpoint)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    info = model.info
    return Source(
        family=info.family,
        height=info.image.height,
        width=info.image.width,
        channels=info.image.channels,
        image_range=info.image.range,
        latent_shape=info.network.latent_shape,
        labels=info.labels,
        generator=model.generator,
        encoder=model.encoder,
        provenance={
            "checkpoint_sha256": model.sha256,
            "preset": info.preset,
            "dataset": {"name": info.dataset.name, "size": info.dataset.size, "sha256": info.dataset.sha256},
            "kimg": info.kimg,
            "metrics": dict(info.metrics),
            "seed": info.seed,
            "git_revision": info.git_revision,
            "torch": info.torch,
        },
    )
