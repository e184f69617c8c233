"""StyleGAN2's generator, written to be exported: (latent, truncation) → images.

The latent of an image holds z first and then the noise of every layer, row by row, so that all of it comes from the
seed. Modulation is applied to the input of a convolution and demodulation to its output, which gives what modulated
weights give and needs no convolution of its own for each image.

Parameters have the names and shapes of rosinality's port (github.com/rosinality/stylegan2-pytorch, MIT license), whose
state dict `g_ema` therefore loads as it is. Source: StyleGAN2 (arXiv:1912.04958).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["StyleGan2"]

_SQRT2 = math.sqrt(2)


class _EqualLinear(nn.Module):
    """A linear layer whose weight is scaled when it is used: by 1/√inputs and by its learning rate."""

    def __init__(self, inputs: int, outputs: int, *, lr_mul: float = 1.0, bias_init: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias_init))
        self.scale, self.lr_mul = lr_mul / math.sqrt(inputs), lr_mul

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.scale, self.bias * self.lr_mul)


class _PixelNorm(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class _MappingLayer(_EqualLinear):
    def forward(self, x: Tensor) -> Tensor:
        return _leaky(super().forward(x))


class _Kernel(nn.Module):
    """A FIR kernel [K, K] that is part of the state dict."""

    def __init__(self, taps: tuple[int, ...], *, gain: float) -> None:
        super().__init__()
        row = torch.tensor(taps, dtype=torch.float32)
        kernel = torch.outer(row, row)
        self.kernel: Tensor
        self.register_buffer("kernel", kernel / kernel.sum() * gain)

    def depthwise(self, channels: int) -> Tensor:
        """[channels, 1, K, K]"""
        return self.kernel.expand(channels, 1, *self.kernel.shape)


class _Blur(_Kernel):
    def forward(self, x: Tensor) -> Tensor:
        kernel = self.depthwise(x.shape[1]).flip(2, 3)
        return functional.conv2d(x, kernel, padding=1, groups=x.shape[1])


class _Upsample(_Kernel):
    """Twice as high and wide: zeros between the pixels, then the kernel: one transposed convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv_transpose2d(x, self.depthwise(x.shape[1]), stride=2, padding=1, groups=x.shape[1])


class _ModulatedConv(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, *, demodulate: bool = True, upsample: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.modulation = _EqualLinear(style, inputs, bias_init=1.0)
        self.scale, self.demodulate, self.padding = 1 / math.sqrt(inputs * kernel**2), demodulate, kernel // 2
        self.blur = _Blur((1, 3, 3, 1), gain=4.0) if upsample else None

    def forward(self, x: Tensor, w: Tensor) -> Any:
        style = self.modulation(w)
        weight = self.weight[0] * self.scale
        x = x * style[:, :, None, None]
        if self.blur is None:
            x = functional.conv2d(x, weight, padding=self.padding)
        else:
            x = self.blur(functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        if not self.demodulate:
            return x
        energy = functional.linear(style.square(), weight.square().sum(dim=(2, 3)))
        return x * torch.rsqrt(energy + 1e-8)[:, :, None, None]


class _NoiseStrength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class _Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class _StyledConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, style: int, *, upsample: bool) -> None:
        super().__init__()
        self.conv = _ModulatedConv(inputs, outputs, 3, style, upsample=upsample)
        self.noise = _NoiseStrength()
        self.activate = _Bias(outputs)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = self.conv(x, w) + self.noise.weight * noise
        return _leaky(x + self.activate.bias[:, None, None])


class _ToRgb(nn.Module):
    def __init__(self, inputs: int, style: int, colors: int, *, upsample: bool) -> None:
        super().__init__()
        self.conv = _ModulatedConv(inputs, colors, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, colors, 1, 1))
        self.upsample = _Upsample((1, 3, 3, 1), gain=4.0) if upsample else None

    def forward(self, x: Tensor, w: Tensor, before: Tensor | None) -> Any:
        rgb = self.conv(x, w) + self.bias
        return rgb if before is None or self.upsample is None else rgb + self.upsample(before)


class _Constant(nn.Module):
    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, height, width))


class StyleGan2(nn.Module):
    """(latent [N, style + every pixel of noise], truncation [N, 1]) → images [N, C, H, W] within [-1, 1].

    Args:
        widths: channels at each size, the smallest first; each size is twice the one before.
        start: height and width of the smallest.
    """

    def __init__(
        self,
        *,
        style: int,
        num_mapping: int,
        widths: tuple[int, ...],
        start: tuple[int, int] = (4, 4),
        colors: int = 3,
    ) -> None:
        super().__init__()
        layers = [_MappingLayer(style, style, lr_mul=0.01) for _ in range(num_mapping)]
        self.style = nn.Sequential(_PixelNorm(), *layers)
        self.input = _Constant(widths[0], *start)
        self.conv1 = _StyledConv(widths[0], widths[0], style, upsample=False)
        self.to_rgb1 = _ToRgb(widths[0], style, colors, upsample=False)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for inputs, outputs in pairwise(widths):
            self.convs.append(_StyledConv(inputs, outputs, style, upsample=True))
            self.convs.append(_StyledConv(outputs, outputs, style, upsample=False))
            self.to_rgbs.append(_ToRgb(outputs, style, colors, upsample=True))
        sizes = [(start[0] << i, start[1] << i) for i in range(len(widths))]
        self.noise_sizes = [sizes[0], *(size for size in sizes[1:] for _ in range(2))]
        self.image_size, self.colors, self.style_width = sizes[-1], colors, style
        self.mean_w: Tensor
        self.register_buffer("mean_w", torch.zeros(style), persistent=False)

    @property
    def latent_width(self) -> int:
        return self.style_width + sum(height * width for height, width in self.noise_sizes)

    def forward(self, latent: Tensor, truncation: Tensor) -> Any:
        parts = torch.split(latent, [self.style_width, *(height * width for height, width in self.noise_sizes)], dim=1)
        w = self.mean_w + truncation * (self.style(parts[0]) - self.mean_w)
        noises = [part.reshape(-1, 1, *size) for part, size in zip(parts[1:], self.noise_sizes, strict=True)]

        # The constant is the same for every image: the first modulation gives it the batch.
        x = self.conv1(self.input.input, w, noises[0])
        rgb = self.to_rgb1(x, w, None)
        for i, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * i](x, w, noises[2 * i + 1])
            x = self.convs[2 * i + 1](x, w, noises[2 * i + 2])
            rgb = to_rgb(x, w, rgb)
        return rgb.clamp(-1, 1)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2) * _SQRT2
