"""What export builds from: a trained network of anyone's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ganvas_core import noise
from ganvas_core.certificate import Truncation
from ganvas_core.interface import Interface, interface
from ganvas_core.names import Role
from ganvas_core.prior import Mixture

__all__ = ["Source"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A trained model, in eval mode on the CPU, and what its certificate says of it."""

    generator: nn.Module
    """(z, label) → images; (z, truncation, label) → images where truncation is "network".

    z is [N, *latent_shape] float32, label [N] int64 and absent where unconditional, truncation [N, 1] float32, images
    [N, C, H, W] float32 in image_range.
    """
    encoder: nn.Module | None = None
    """[N, C, H, W] float32 in image_range → mean and logvar, [N, *latent_shape] float32 each."""
    latent_shape: tuple[int, ...]
    image: tuple[int, int, int]
    """Height, width, channels."""
    image_range: tuple[float, float]
    """What the network makes for black and for white: (-1, 1) of a tanh, (0, 1) of a sigmoid."""
    may_leave_range: bool = False
    """Whether values beyond the range are the network's way, to be clamped, and no mistake in a spec."""
    labels: tuple[str, ...] = ()
    """Empty: unconditional."""
    truncation: Truncation = "latent"
    """Who applies the truncation: "latent": z is scaled by it; "network": the generator takes it."""
    prior: Mixture | None = None
    """What latents are drawn from. None: a normal distribution, as the noise has it."""
    family: str = "gan"
    """For people to read."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Plain JSON: where the weights came from."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return ("sample", "decode") if self.encoder is None else ("sample", "decode", "encode")

    def network_latents(
        self, seeds: NDArray[np.uint64], truncation: NDArray[np.float32], labels: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        """[N, *latent_shape] float32: what the network's graph takes beside the truncation.

        With a prior, the truncation is in it already, and the graph takes none.
        """
        if self.prior is None:
            return noise.latents(seeds, self.latent_shape)
        return noise.truncated_latents(seeds, truncation, self.latent_shape, self.prior, labels)

    def interface(self, role: Role) -> Interface:
        return interface(role, image=self.image, latent_shape=self.latent_shape, num_labels=len(self.labels))
