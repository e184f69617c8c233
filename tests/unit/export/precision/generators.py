"""Generators that half arithmetic breaks, each in its own way: [N, 16] to images of 3x16x16 within [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.adapters.source import Source

__all__ = ["HOSTILE", "hostile_source"]

WIDTH = 16


class Generator(nn.Module):
    """A first map of 8x8 from the latent, what a subclass does with it, and an image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.ConvTranspose2d(16, WIDTH, 8)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.third = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)
        self.to_image = nn.Conv2d(WIDTH, 3, 3, padding=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2.0)
            self.to_image.weight.mul_(0.5)

    def middle(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(x)))

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.to_image(self.up(self.middle(self.first(z[:, :, None, None])))))


class Overflowing(Generator):
    """Activations of 2e5, which the next convolution scales down."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.second.weight.mul_(2e5)
            self.second.bias.mul_(2e5)  # type: ignore[union-attr]
            self.third.weight.div_(2e5)

    def middle(self, x: Tensor) -> Tensor:
        return torch.relu(self.third(torch.relu(self.second(torch.relu(x)))))


class OverflowingResidual(Overflowing):
    """The same, where a second reader of the large value forbids rescaling."""

    def middle(self, x: Tensor) -> Tensor:
        large = torch.relu(self.second(torch.relu(x)))
        return torch.relu(self.third(large) + large * 1e-6)


class LargeConstants(Generator):
    """Instance norm of a signal of about 1 on a constant of 1000, whose neighbors in half are 0.5 away."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(WIDTH, affine=True)
        self.constant = nn.Parameter(torch.randn(1, WIDTH, 8, 8))
        with torch.no_grad():
            self.second.bias.add_(1000.0)  # type: ignore[union-attr]
            self.second.weight.mul_(4.0)
            self.to_image.weight.mul_(0.4)

    def middle(self, x: Tensor) -> Tensor:
        return torch.relu(self.third(torch.relu(self.norm(self.second(torch.relu(x + self.constant))))))


class TinyWeights(Generator):
    """Weights of 1e-8, which half has no number for, and a next layer that makes up for it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.second.weight.mul_(1e-8)
            self.second.bias.mul_(1e-8)  # type: ignore[union-attr]
            self.third.weight.mul_(1e8)

    def middle(self, x: Tensor) -> Tensor:
        return torch.relu(self.third(torch.relu(self.second(torch.relu(x)))))


class DeepResidual(Generator):
    """A chain of 12 residual blocks on a level of 256, whose neighbors in half are 0.25 away: every sum is rounded to
    them, and what the blocks add is small beside it.
    """

    LEVEL = 256.0

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            )
            for _ in range(12)
        )
        with torch.no_grad():
            self.first.weight.mul_(8.0)
            self.first.bias.add_(self.LEVEL)  # type: ignore[union-attr]
            for block in self.blocks:
                for parameter in block[3].parameters():  # type: ignore[index]
                    parameter.mul_(0.25)

    def middle(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x - self.LEVEL)
        return x - self.LEVEL


class LargeLogits(Generator):
    """Attention whose keys have a large bias: it moves all logits of a query by thousands, which the softmax does not
    see, and half rounds them to whole numbers or coarser.
    """

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH)
        with torch.no_grad():
            self.query.weight.mul_(6.0)
            self.key.bias.normal_(std=1000.0)

    def middle(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        weights = torch.softmax(self.query(tokens) @ self.key(tokens).transpose(1, 2), dim=-1)
        mixed = (weights @ tokens).transpose(1, 2).reshape(x.shape)
        return torch.relu(self.third(mixed))


HOSTILE: dict[str, type[Generator]] = {
    "activations over 65504": Overflowing,
    "activations over 65504, read twice": OverflowingResidual,
    "instance norm on large constants": LargeConstants,
    "weights of 1e-8": TinyWeights,
    "deep residual chain": DeepResidual,
    "attention with large logits": LargeLogits,
}


def hostile_source(name: str) -> Source:
    return Source(generator=HOSTILE[name]().eval(), latent_shape=(16,), image=(16, 16, 3), image_range=(-1.0, 1.0))
