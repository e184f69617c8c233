"""What the checks and plans of a request need to know of its model."""

from __future__ import annotations

from typing import Protocol

from ganvas_core.names import Role
from ganvas_core.prior import Mixture

__all__ = ["RequestedModel"]


class RequestedModel(Protocol):
    """One version of a model, as a request finds it."""

    @property
    def name(self) -> str: ...
    @property
    def latent_shape(self) -> tuple[int, ...]: ...
    @property
    def prior(self) -> Mixture | None:
        """What latents are drawn from; None: a normal distribution."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Empty: unconditional."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""

    @property
    def image_bytes(self) -> int:
        """Of one raw image."""

    @property
    def roles(self) -> tuple[Role, ...]: ...
    @property
    def truncation_max(self) -> float: ...
    @property
    def network_truncates(self) -> bool:
        """Whether truncation is an input of the network, and no scale of the latent."""

    @property
    def max_count(self) -> int:
        """Images in one unary call."""

    @property
    def max_stream_count(self) -> int:
        """Images in one stream."""
