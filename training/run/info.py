"""model.json of a checkpoint: the network, its images and data, and how it was trained."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, SerializeAsAny, ValidationInfo
from pydantic.dataclasses import dataclass

from training.config import STRICT, NetworkConfig
from training.families import FAMILIES

__all__ = ["FORMAT", "CheckpointInfo", "DatasetInfo", "ImageFormat"]

FORMAT = 2
"""The newest checkpoint format this release reads, and the one it writes. Format 1 called the family dcgan "gan"."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageFormat:
    height: int
    width: int
    channels: int
    range: tuple[float, float]
    """Range of the network's output: (-1, 1) for a GAN's tanh, (0, 1) for a VAE's sigmoid."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DatasetInfo:
    name: str
    size: int
    sha256: str
    """SHA-256 of the prepared uint8 images and labels: see training.data."""
    license: str = ""
    """Licence of the images; empty: not known."""
    source: str = ""
    """Where the images come from."""


def _parse_network(value: Any, info: ValidationInfo) -> Any:
    """The object in model.json as the network_type of its family, which was validated before it."""
    if isinstance(value, dict) and "family" in info.data:
        return FAMILIES[info.data["family"]].parse_network(value)
    return value


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CheckpointInfo:
    """model.json."""

    format: int = FORMAT
    family: Literal[tuple(FAMILIES)]  # type: ignore[valid-type]
    preset: str
    network: Annotated[SerializeAsAny[NetworkConfig], BeforeValidator(_parse_network)]
    """The family's network_type."""
    image: ImageFormat
    labels: tuple[str, ...]
    """One name per class; empty where unconditional."""
    dataset: DatasetInfo
    metrics: dict[str, float] = field(default_factory=dict)
    kimg: float
    """Thousands of real images the network has been shown."""
    seed: int
    started_from: str = ""
    """SHA-256 of the weights that the run was started from; empty: from random ones."""
    trained_with_features: tuple[str, ...] = ()
    """Names of frozen features that its loss looked at, or that of the run it was started from: never to judge it."""
    num_rollbacks: int = 0
    """How often the run diverged and was taken back to an earlier checkpoint."""
    device: str = ""
    """What it was trained on."""
    git_revision: str | None = None
    torch: str

    def __post_init__(self) -> None:
        height, width, channels = self.network.image_shape
        if (self.image.height, self.image.width, self.image.channels) != (height, width, channels):
            raise ValueError(f"image must be {height}x{width}x{channels}, as network says.")
        expected_range = FAMILIES[self.family].image_range
        if self.image.range != expected_range:
            raise ValueError(f"image.range of a {self.family} must be {expected_range}; got {self.image.range}.")
        if len(self.labels) != self.network.num_classes:
            raise ValueError(f"labels must have network.num_classes = {self.network.num_classes} entries.")
