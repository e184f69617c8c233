from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.data import load_digits
from training.metrics import density_and_coverage, label_accuracy, reconstruction_mse

DIGITS = load_digits(8)
PIXELS = DIGITS.images.flatten(1).numpy() / 255.0
LABELS = DIGITS.labels.numpy()


def test_label_accuracy_is_high_for_real_digits_and_at_chance_for_shuffled_labels() -> None:
    shuffled = np.random.default_rng(0).permutation(LABELS[1::2])
    right = label_accuracy(PIXELS, LABELS, PIXELS[1::2], LABELS[1::2])
    wrong = label_accuracy(PIXELS, LABELS, PIXELS[1::2], shuffled)
    assert right["label_accuracy"] == right["real_label_accuracy"] > 0.97
    assert wrong["label_accuracy"] < 0.2


def test_density_and_coverage_are_near_one_for_real_digits() -> None:
    measures = density_and_coverage(PIXELS, PIXELS)
    assert measures["density"] == pytest.approx(1.0, abs=0.25)
    assert measures["coverage"] == 1.0


def test_coverage_is_low_when_all_samples_are_alike() -> None:
    measures = density_and_coverage(PIXELS, np.repeat(PIXELS[:3], 100, axis=0))
    assert measures["coverage"] < 0.05


def test_density_is_zero_for_noise() -> None:
    noise = np.random.default_rng(0).random(PIXELS[:300].shape)
    assert density_and_coverage(PIXELS, noise)["density"] < 0.01


class Flat(nn.Module):
    """Encodes to nothing and decodes to one grey."""

    def __init__(self, grey: float) -> None:
        super().__init__()
        self.grey = grey

    def forward(self, x: Tensor, label: Tensor | None = None) -> object:
        return (x, x) if label is None else torch.full((len(label), 1, 8, 8), self.grey)


@pytest.mark.parametrize(("image_range", "black"), [((0.0, 1.0), 0.0), ((-1.0, 1.0), -1.0)])
def test_reconstruction_mse_is_the_mean_square_for_a_black_decoder(
    image_range: tuple[float, float], black: float
) -> None:
    error = reconstruction_mse(DIGITS, Flat(black), Flat(black), image_range)
    assert error == pytest.approx(float(np.square(PIXELS).mean()), rel=1e-5)
