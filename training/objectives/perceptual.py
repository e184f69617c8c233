"""How far two images are apart in the eyes of a frozen network, as a term of a reconstruction's error.

Source: perceptual losses (arXiv:1603.08155); maps of unit length at each place as in LPIPS (arXiv:1801.03924), here
without its learned weights.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import functional

from training.efficientnet import load_efficientnet, rgb

__all__ = ["PerceptualDistance"]

NUM_STAGES = 5
"""Down to maps of a sixteenth of the size: later ones say what an image shows, no longer where."""
MIN_SIZE = 64
"""Smaller images are enlarged: ImageNet's objects are large, and every stage needs some places to look at."""


class PerceptualDistance:
    """The distance, and the network it is taken with.

    Raises:
        MissingFeaturesError: the network's package is not installed.
    """

    def __init__(self) -> None:
        self._network = copy.deepcopy(load_efficientnet())  # its own, which may be moved to a GPU

    def __call__(self, images: Tensor, references: Tensor) -> Tensor:
        """[N] float32 from 0 to 4: the squared distance of the unit feature vectors, mean over places and maps.

        Args:
            images: [N, C, H, W] in [0, 1], grey, RGB or RGBA; they get a gradient.
            references: the same shape; they get none.
        """
        with torch.no_grad():
            wanted = self._maps(references)
        distances = [
            (found - other).square().sum(dim=1).mean(dim=(1, 2))
            for found, other in zip(self._maps(images), wanted, strict=True)
        ]
        return torch.stack(distances).mean(dim=0)

    def _maps(self, images: Tensor) -> list[Tensor]:
        size = max(MIN_SIZE, images.shape[2]), max(MIN_SIZE, images.shape[3])
        if size != images.shape[2:]:
            images = functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
        maps = self._network.to(images.device).maps(rgb(images) * 2 - 1, num_stages=NUM_STAGES)
        return [functional.normalize(each.float(), dim=1, eps=1e-6) for each in maps]
