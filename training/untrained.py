"""A checkpoint of random weights: networks of any size to export, serve and measure, without training them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import nn

from training.checkpoint import DatasetInfo, ImageInfo, ModelInfo, NetworkInfo, save_model
from training.networks import Decoder, Encoder, Generator

__all__ = ["save_untrained"]


def save_untrained(folder: Path, *, family: Literal["gan", "vae"], network: NetworkInfo, seed: int = 0) -> None:
    """Save networks whose images are noise, but differ from latent to latent and use the whole range.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    torch.manual_seed(seed)
    size, channels = network.image_size, network.image_channels
    arguments = {
        "latent_dim": network.latent_dim,
        "num_classes": network.num_classes,
        "embedding_dim": network.embedding_dim,
        "image_size": size,
        "image_channels": channels,
        "base_channels": network.base_channels,
    }
    generator = Generator(**arguments) if family == "gan" else Decoder(**arguments)
    encoder = None
    if family == "vae":
        encoder = Encoder(
            latent_dim=network.latent_dim,
            image_size=size,
            image_channels=channels,
            base_channels=network.base_channels,
        )
    for module in (generator, encoder):
        if module is not None:
            _randomise(module)
    info = ModelInfo(
        family=family,
        preset="untrained",
        network=network,
        image=ImageInfo(
            height=size, width=size, channels=channels, range=(-1.0, 1.0) if family == "gan" else (0.0, 1.0)
        ),
        labels=tuple(str(i) for i in range(network.num_classes)),
        dataset=DatasetInfo(name="none", size=0, sha256=""),
        kimg=0.0,
        seed=seed,
        torch=torch.__version__,
    )
    save_model(folder, info, generator, encoder)


def _randomise(module: nn.Module) -> None:
    """Weights scaled to keep the variance through the layers, and batch-norm statistics that folding must honour."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.normal_(layer.weight, std=float(layer.weight.detach().std()) * 1.5)
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
