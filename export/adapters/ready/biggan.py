"""BigGAN-deep of pytorch-pretrained-biggan, from a folder with config.json and weights.

Its batch norms hold statistics for 51 truncations, so the truncation belongs to the network: it scales the latent,
which is normal without what is beyond 2, and picks the statistics for each image by itself.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.adapters.ready.request import Request
from export.adapters.spec import Spec
from export.adapters.weights import load_into
from export.errors import InputError, first_line
from export.surgery.reparametrise import fold_reparametrisations

__all__ = ["TruncatedBigGan", "adapter"]

_FILES = ("pytorch_model.safetensors", "pytorch_model.bin")


class _BatchNorm(nn.Module):
    """BigGANBatchNorm for a truncation [N, 1] instead of one number for the batch.

    Between two of its truncations the statistics are interpolated. (The package weighs the two the wrong way round, so
    it is one step of 51 off there; at its own truncations both agree.)
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm
        self.last = len(norm.running_means) - 1

    def forward(self, x: Tensor, truncation: Tensor, condition: Tensor | None = None) -> Tensor:
        place = truncation.reshape(-1).clamp(0, 1) * self.last
        below = place.floor().clamp(0, self.last - 1)
        index, share = below.long(), (place - below)[:, None]
        mean, variance = (
            stored[index] + share * (stored[index + 1] - stored[index])
            for stored in (self.norm.running_means, self.norm.running_vars)
        )
        if condition is None:
            weight, bias = self.norm.weight[None], self.norm.bias[None]
        else:
            weight, bias = 1 + self.norm.scale(condition), self.norm.offset(condition)
        scale = weight * torch.rsqrt(variance + self.norm.eps)
        normed: Tensor = x * scale[:, :, None, None] + (bias - mean * scale)[:, :, None, None]
        return normed


class TruncatedBigGan(nn.Module):
    """(z [N, Z], truncation [N, 1], label [N]) → images within [-1, 1]."""

    def __init__(self, biggan: Any) -> None:
        super().__init__()
        from pytorch_pretrained_biggan.model import BigGANBatchNorm

        self.embedding = nn.Parameter(biggan.embeddings.weight.detach().t().contiguous())
        self.generator = biggan.generator
        for module in list(self.generator.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, BigGANBatchNorm):
                    setattr(module, name, _BatchNorm(child))

    def forward(self, z: Tensor, truncation: Tensor, label: Tensor) -> Any:
        condition = torch.cat((z * truncation, functional.embedding(label, self.embedding)), dim=1)
        return self.generator(condition, truncation)


def adapter(request: Request) -> tuple[nn.Module, Spec]:
    """Rebuild the generator that config.json describes.

    Raises:
        InputError: the package is not installed, or the folder is not such a model.
    """
    try:
        from pytorch_pretrained_biggan import BigGAN, BigGANConfig
    except ImportError:
        raise InputError(
            "--adapter biggan needs its package: .venv/bin/pip install pytorch-pretrained-biggan."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package uses what torch has renamed since
            config = BigGANConfig.from_dict(request.read_config())
            biggan = BigGAN(config)
    except (TypeError, ValueError, IndexError, KeyError, RuntimeError) as error:
        raise InputError(f"{request.weights / 'config.json'} cannot be used: {first_line(error)}") from None
    load_into(biggan, request.read(request.only_file(*_FILES)))
    fold_reparametrisations(biggan.eval())
    size = 4 * 2 ** sum(bool(layer[0]) for layer in config.layers)
    spec = Spec(
        latent_shape=(config.z_dim,),
        image=(size, size, 3),
        distribution="truncated-normal",
        labels=config.num_classes,
        truncation="network",
    )
    return TruncatedBigGan(biggan), spec
