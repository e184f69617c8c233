"""Adapters for families whose weights many people have, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from export.adapters.ready import biggan, dcgan, diffusers_vae, stylegan2
from export.adapters.ready.request import Request
from export.adapters.spec import Spec

__all__ = ["READY", "Request"]

READY: dict[str, Callable[[Request], tuple[nn.Module, Spec]]] = {
    "dcgan": dcgan.adapter,
    "diffusers-vae": diffusers_vae.adapter,
    "biggan": biggan.adapter,
    "stylegan2": stylegan2.adapter,
}
