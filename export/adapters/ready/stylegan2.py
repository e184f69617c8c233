"""StyleGAN2 from a file in the layout of rosinality's port: the state dict `g_ema`, alone or in a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from export.adapters.ready.request import Request
from export.adapters.ready.stylegan2_network import StyleGan2
from export.adapters.spec import Spec
from export.adapters.weights import load_into
from export.errors import InputError
from ganvas_core import noise

__all__ = ["adapter"]

_NUM_MEAN = 4096
"""Latents whose mean w the truncation pulls to, where the file has none: as many as the port takes."""


def adapter(request: Request) -> tuple[nn.Module, Spec]:
    """Read every width from the shapes of the weights.

    Raises:
        InputError: the file cannot be read or holds no such generator.
    """
    found = request.read()
    mean_w = found.get("latent_avg")
    weights: dict[str, Any] = found["g_ema"] if isinstance(found.get("g_ema"), dict) else found
    # Buffers of the port: the noise that it uses where none is given.
    weights = {key: tensor for key, tensor in weights.items() if not key.startswith("noises.") and key != "latent_avg"}
    try:
        style, constant = weights["style.1.weight"], weights["input.input"]
        num_mapping = sum(key.startswith("style.") and key.endswith(".weight") for key in weights)
        colors = weights["to_rgb1.bias"].shape[1]
        widths = [constant.shape[1]]
        while (key := f"convs.{2 * len(widths) - 2}.conv.weight") in weights:
            widths.append(weights[key].shape[1])
        network = StyleGan2(
            style=style.shape[1],
            num_mapping=num_mapping,
            widths=tuple(widths),
            start=tuple(constant.shape[2:]),
            colors=colors,
        )
    except (KeyError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"--weights {request.weights} is no StyleGAN2 generator in the layout of rosinality's port: {error} is "
            "missing or of another shape. Give the file with `g_ema`, or its state dict."
        ) from None
    load_into(network, weights)
    network.mean_w.copy_(_mean_w(network) if mean_w is None else mean_w.reshape(-1))
    height, width = network.image_size
    return network, Spec(latent_shape=(network.latent_width,), image=(height, width, colors), truncation="network")


def _mean_w(network: StyleGan2) -> Tensor:
    """The mean of w over fixed latents."""
    z = torch.from_numpy(noise.latents(list(range(_NUM_MEAN)), (network.style_width,)))
    with torch.no_grad():
        mean: Tensor = network.style(z).mean(dim=0)
    return mean
