"""The small classifier of handwritten digits that judges generators of digits: its features, and its labels.

It is shipped frozen, so that figures of different runs and machines compare, and was never shown a held-out writer.
`python -m training.evaluation.digits.train` makes the weights beside this file.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["IMAGE_SIZE", "NUM_FEATURES", "WEIGHTS", "DigitClassifier", "load_digit_classifier"]

WEIGHTS = Path(__file__).with_name("digits.safetensors")
IMAGE_SIZE = 32
NUM_FEATURES = 16
"""So few that some hundred held-out images settle a covariance and neighbourhoods: with 64, training images themselves
have a precision of 0.83 by the held-out ones, with 16 they have 0.90."""


class DigitClassifier(nn.Module):
    """Four convolutions, a linear layer to 16 features, and one to ten classes: 77,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide_in, wide_out, stride in ((1, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 2)):
            layers += [nn.Conv2d(wide_in, wide_out, 3, stride, 1), nn.BatchNorm2d(wide_out), nn.ReLU()]
        self.blocks = nn.Sequential(*layers)
        self.to_features = nn.Linear(64 * 16, NUM_FEATURES)
        self.to_logits = nn.Linear(NUM_FEATURES, 10)

    def features(self, x: Tensor) -> Tensor:
        """[N, 1, H, W] float32 in [0, 1], of any size → [N, 16] float32, not negative, of a mean square near 1."""
        if x.shape[2:] != (IMAGE_SIZE, IMAGE_SIZE):
            x = functional.interpolate(x, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)
        return functional.relu(self.to_features(self.blocks(x * 2 - 1).flatten(1)))

    def logits(self, features: Tensor) -> Tensor:
        """[N, 16] → [N, 10]."""
        logits: Tensor = self.to_logits(features)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """[N, 1, H, W] float32 in [0, 1] → [N, 10] log-odds."""
        return self.logits(self.features(x))


@lru_cache(maxsize=1)
def load_digit_classifier() -> DigitClassifier:
    """The shipped classifier, frozen."""
    classifier = DigitClassifier()
    classifier.load_state_dict(safetensors.torch.load_file(WEIGHTS))
    return classifier.eval().requires_grad_(False)
