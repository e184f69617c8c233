"""AutoencoderKL and AutoencoderTiny of diffusers, from a folder with config.json and weights.

The latent is the one that a diffusion model works with, of about unit variance: (latent of the autoencoder - shift) ·
scale. So decode takes a diffusion model's result as it is, and encode gives what it is trained with.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from export.adapters.ready.request import Request
from export.adapters.spec import Spec
from export.adapters.weights import load_into
from export.errors import InputError, first_line

__all__ = ["adapter"]

_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_CERTAIN_LOGVAR = -30.0
"""AutoencoderTiny gives one latent and no variance: this is the least that diffusers knows."""


class _Decoder(nn.Module):
    def __init__(self, autoencoder: Any, *, scale: float, shift: float) -> None:
        super().__init__()
        self.decoder = autoencoder.decoder
        self.post_quant_conv = getattr(autoencoder, "post_quant_conv", None)
        self.scale, self.shift = scale, shift

    def forward(self, z: Tensor) -> Tensor:
        z = z / self.scale + self.shift
        if self.post_quant_conv is not None:
            z = self.post_quant_conv(z)
        images: Tensor = self.decoder(z)
        return images.clamp(-1, 1)


class _Encoder(nn.Module):
    def __init__(self, autoencoder: Any, *, scale: float, shift: float) -> None:
        super().__init__()
        self.encoder = autoencoder.encoder
        self.quant_conv = getattr(autoencoder, "quant_conv", None)
        self.scale, self.shift = scale, shift

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(images)
        if self.quant_conv is not None:
            hidden = self.quant_conv(hidden)
        mean, logvar = self.split(hidden)
        return (mean - self.shift) * self.scale, logvar + 2 * math.log(self.scale)

    def split(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = hidden.chunk(2, dim=1)
        return mean, logvar.clamp(_CERTAIN_LOGVAR, 20.0)


class _TinyEncoder(_Encoder):
    def split(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, torch.full_like(hidden, _CERTAIN_LOGVAR)


def adapter(request: Request) -> tuple[nn.Module, Spec]:
    """Rebuild the autoencoder that config.json describes.

    Raises:
        InputError: diffusers is not installed, the folder is not such an autoencoder, or no image size can be had.
    """
    try:
        from diffusers import AutoencoderKL, AutoencoderTiny
    except ImportError:
        raise InputError("--adapter diffusers-vae needs diffusers: .venv/bin/pip install diffusers.") from None
    config = request.read_config()
    kinds = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
    kind = kinds.get(config.get("_class_name", ""))
    if kind is None:
        raise InputError(
            f"--adapter diffusers-vae takes {' and '.join(kinds)}; {request.weights} is {config.get('_class_name')!r}."
        )
    try:
        autoencoder = kind.from_config(config)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{request.weights / 'config.json'} cannot be used: {first_line(error)}") from None
    load_into(autoencoder, request.read(request.only_file(*_FILES)))

    # How much smaller the latent is, and for which images.
    values = autoencoder.config
    tiny = kind is AutoencoderTiny
    factor = 2 ** (len(values.encoder_block_out_channels if tiny else values.block_out_channels) - 1)
    square = (values.sample_size,) * 2 if values.get("sample_size") else None
    size = request.image_size or square
    if size is None:
        raise InputError("--image-size HEIGHTxWIDTH is needed: this autoencoder takes images of any size.")
    if any(side % factor for side in size):
        raise InputError(f"--image-size must be multiples of {factor} for this autoencoder; got {size[0]}x{size[1]}.")
    scaling = {"scale": float(values.scaling_factor), "shift": float(values.get("shift_factor") or 0.0)}
    encoder = (_TinyEncoder if tiny else _Encoder)(autoencoder, **scaling)
    spec = Spec(
        latent_shape=(values.latent_channels, size[0] // factor, size[1] // factor),
        image=(*size, values.out_channels),
        encoder=encoder,
    )
    return _Decoder(autoencoder, **scaling), spec
