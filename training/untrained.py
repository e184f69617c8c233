"""A checkpoint of random weights: networks of any size to export, serve and measure, without training them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from training.config import NetworkConfig
from training.families import FAMILIES
from training.prior import LearnedPrior
from training.run.checkpoint import save_model
from training.run.info import CheckpointInfo, DatasetInfo, ImageFormat

__all__ = ["save_untrained"]


def save_untrained(folder: Path, *, family: str, network: NetworkConfig, seed: int = 0) -> None:
    """Save networks whose images are noise, but differ from latent to latent and use the whole range.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, encoder = FAMILIES[family].build(network)
        for module in (generator, encoder):
            if module is not None:
                _randomize(module)
    height, width, channels = network.image_shape
    info = CheckpointInfo(
        family=family,
        preset="untrained",
        network=network,
        image=ImageFormat(height=height, width=width, channels=channels, range=FAMILIES[family].image_range),
        labels=tuple(str(i) for i in range(network.num_classes)),
        dataset=DatasetInfo(name="none", size=0, sha256=""),
        kimg=0.0,
        seed=seed,
        torch=torch.__version__,
    )
    save_model(folder, info, generator, encoder)


def _randomize(module: nn.Module) -> None:
    """Weights that keep the variance through the layers, and statistics and priors that are not 0 and 1."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.normal_(layer.weight, std=float(layer.weight.detach().std()) * 1.5)
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
        elif isinstance(layer, LearnedPrior):
            nn.init.normal_(layer.table, std=0.5)
            layer.label_thresholds.random_(2**32).copy_(layer.label_thresholds.sort(dim=1).values)
