"""The networks: a DCGAN generator, a projection discriminator, and the encoder and decoder of a convolutional VAE.

    img = generator(z, label)             # NCHW, float32, [-1, +1]
    mean, logvar = encoder(img)           # [N, Z] each
    img = decoder(z, label)               # NCHW, float32, [0, 1]

Generator, encoder and decoder hold no Linear layer: a CPU rounds a matrix product differently for one row than for
many, while it works on every image of a convolution by itself. So the image of a latent does not depend on the
batch it was made in. For the same reason their transposed convolutions are only (4, 1, 0) and (4, 2, 1).

Source: DCGAN (arXiv:1511.06434); projection discriminator (arXiv:1802.05637); VAE (arXiv:1312.6114).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["Decoder", "Discriminator", "Encoder", "Generator", "use_channels_last"]


class LatentStem(nn.Module):
    """A latent, and the embedding of its label where there are classes, as a 1x1 image of many channels."""

    def __init__(self, *, latent_dim: int, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, embedding_dim) if num_classes else None
        self.num_channels = latent_dim + (embedding_dim if num_classes else 0)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and [N] int64 → [N, num_channels, 1, 1]."""
        if (label is None) != (self.embedding is None):
            raise ValueError(
                "label is missing: the network is conditional."
                if label is None
                else "label must be absent: the network is unconditional."
            )
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(label)], dim=1)
        return z[:, :, None, None]


class Generator(nn.Module):
    """DCGAN generator, class-conditional unless num_classes is 0.

    image_size 64, base_channels 64, 3 channels and latent_dim 100 is the textbook network: 0.21 GFLOP an image.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        num_classes: int,
        embedding_dim: int,
        image_size: int,
        image_channels: int,
        base_channels: int,
    ) -> None:
        super().__init__()
        self.stem = LatentStem(latent_dim=latent_dim, num_classes=num_classes, embedding_dim=embedding_dim)
        widths = [self.stem.num_channels, *_widths(image_size, base_channels)]
        self.blocks = nn.Sequential(*_upsampling(widths, nn.ReLU))
        self.to_image = nn.ConvTranspose2d(widths[-1], image_channels, 4, 2, 1)
        self.apply(_initialise)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W] float32 in [-1, 1].

        Raises:
            ValueError: label is missing in a conditional generator, or given to an unconditional one.
        """
        return torch.tanh(self.to_image(self.blocks(self.stem(z, label))))


class Discriminator(nn.Module):
    """Projection discriminator without norm: score = w·h(x) + embedding(label)·h(x)."""

    def __init__(self, *, num_classes: int, image_size: int, image_channels: int, base_channels: int) -> None:
        super().__init__()
        widths = [image_channels, *reversed(_widths(image_size, base_channels))]
        layers: list[nn.Module] = []
        for wide_in, wide_out in pairwise(widths):
            layers += [nn.Conv2d(wide_in, wide_out, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.to_score = nn.Linear(widths[-1] * 16, 1)
        self.embedding = nn.Embedding(num_classes, widths[-1] * 16) if num_classes else None
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, C, H, W] in [-1, 1] and, where conditional, [N] int64 → [N] scores, high for real."""
        h = self.features(x).flatten(1)
        score: Tensor = self.to_score(h).squeeze(1)
        if self.embedding is not None and label is not None:
            score = score + (self.embedding(label) * h).sum(1)
        return score


class Encoder(nn.Module):
    """The VAE's posterior q(z | x): it takes no label, so that a client may encode an image of an unknown class."""

    def __init__(self, *, latent_dim: int, image_size: int, image_channels: int, base_channels: int) -> None:
        super().__init__()
        widths = [image_channels, *reversed(_widths(image_size, base_channels))]
        layers: list[nn.Module] = []
        for wide_in, wide_out in pairwise(widths):
            layers += [nn.Conv2d(wide_in, wide_out, 4, 2, 1, bias=False), nn.BatchNorm2d(wide_out), nn.SiLU()]
        self.blocks = nn.Sequential(*layers)
        self.to_posterior = nn.Conv2d(widths[-1], 2 * latent_dim, 4, 1, 0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] float32 in [0, 1] → mean and log-variance, [N, Z] float32 each; logvar within [-10, 10]."""
        mean, logvar = self.to_posterior(self.blocks(x)).flatten(1).chunk(2, dim=1)
        return mean, logvar.clamp(-10.0, 10.0)


class Decoder(nn.Module):
    """The VAE's likelihood p(x | z, label): Bernoulli per pixel."""

    def __init__(
        self,
        *,
        latent_dim: int,
        num_classes: int,
        embedding_dim: int,
        image_size: int,
        image_channels: int,
        base_channels: int,
    ) -> None:
        super().__init__()
        self.stem = LatentStem(latent_dim=latent_dim, num_classes=num_classes, embedding_dim=embedding_dim)
        widths = [self.stem.num_channels, *_widths(image_size, base_channels)]
        self.blocks = nn.Sequential(*_upsampling(widths, nn.SiLU))
        self.to_logits = nn.ConvTranspose2d(widths[-1], image_channels, 4, 2, 1)

    def logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W] log-odds of a white pixel."""
        logits: Tensor = self.to_logits(self.blocks(self.stem(z, label)))
        return logits

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean image: [N, C, H, W] float32 in [0, 1].

        Raises:
            ValueError: label is missing in a conditional decoder, or given to an unconditional one.
        """
        return torch.sigmoid(self.logits(z, label))


def use_channels_last(*modules: nn.Module) -> None:
    """Lay the weights out as NHWC in memory, which trains up to twice as fast on a CPU. Shapes stay NCHW."""
    for module in modules:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _widths(image_size: int, base_channels: int) -> list[int]:
    """Channels at 4x4, 8x8, … image_size/2, widest first: they halve as the image doubles.

    Raises:
        ValueError: image_size is no power of two from 8 up.
    """
    if image_size < 8 or image_size & (image_size - 1):
        raise ValueError(f"image_size must be a power of two from 8 up; got {image_size}.")
    num_doublings = image_size.bit_length() - 3
    return [base_channels * 2**i for i in reversed(range(num_doublings))]


def _upsampling(widths: list[int], activation: type[nn.Module]) -> list[nn.Module]:
    """Transposed convolution, norm, activation per width: 1x1 → 4x4, then twice as large each time."""
    layers: list[nn.Module] = []
    for i, (wide_in, wide_out) in enumerate(pairwise(widths)):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        layers += [
            nn.ConvTranspose2d(wide_in, wide_out, 4, stride, padding, bias=False),
            nn.BatchNorm2d(wide_out),
            activation(),
        ]
    return layers


def _initialise(module: nn.Module) -> None:
    """DCGAN's start: every weight from N(0, 0.02), batch-norm scales from N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
