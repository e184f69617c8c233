from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.training import TINY, TINY_UNCONDITIONAL, tiny_network
from training.data.digits import split_digits
from training.evaluation.measures import Evaluation, density_and_coverage, label_accuracy, measure, reconstruction_mse
from training.families import FAMILIES

SPLIT = split_digits(8)
DIGITS = SPLIT.held_out
assert DIGITS.labels is not None
PIXELS = DIGITS.images.flatten(1).numpy() / 255.0
LABELS = DIGITS.labels.numpy()


def evaluation(**changes: Any) -> Evaluation:
    """The measures of real digits taken as samples."""
    values: dict[str, Any] = {
        "train": SPLIT.train,
        "dataset": DIGITS,
        "generator": nn.Identity(),
        "encoder": None,
        "latent_shape": (4,),
        "num_classes": 10,
        "image_range": (0.0, 1.0),
        "real": PIXELS,
        "fake": PIXELS,
        "fake_labels": LABELS,
    }
    return Evaluation(**(values | changes))


def test_label_accuracy_is_high_for_real_digits_and_at_chance_for_shuffled_labels() -> None:
    right = label_accuracy(evaluation())
    wrong = label_accuracy(evaluation(fake_labels=np.random.default_rng(0).permutation(LABELS)))
    assert right["label_accuracy"] == right["real_label_accuracy"] > 0.96
    assert wrong["label_accuracy"] < 0.2


def test_label_accuracy_is_judged_on_images_that_the_classifier_has_not_seen() -> None:
    assert SPLIT.train.labels is not None
    mislabelled = dataclasses.replace(SPLIT.train, labels=(SPLIT.train.labels + 1) % 10)
    assert label_accuracy(evaluation(train=mislabelled))["real_label_accuracy"] < 0.05


def test_label_accuracy_needs_two_labels() -> None:
    one = dataclasses.replace(SPLIT.train, labels=torch.zeros(len(SPLIT.train), dtype=torch.int64))
    assert label_accuracy(evaluation(train=one)) == {}


def test_density_and_coverage_are_near_one_for_real_digits() -> None:
    measures = density_and_coverage(evaluation())
    assert measures["density"] == pytest.approx(1.0, abs=0.25)
    assert measures["coverage"] == 1.0


def test_coverage_is_low_when_all_samples_are_alike() -> None:
    assert density_and_coverage(evaluation(fake=np.repeat(PIXELS[:3], 100, axis=0)))["coverage"] < 0.05


def test_density_is_zero_for_noise() -> None:
    noise = np.random.default_rng(0).random(PIXELS[:300].shape)
    assert density_and_coverage(evaluation(fake=noise))["density"] < 0.01


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
    measures = reconstruction_mse(evaluation(generator=Flat(black), encoder=Flat(black), image_range=image_range))
    assert measures["reconstruction_mse"] == pytest.approx(float(np.square(PIXELS).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("family", "network", "names"),
    [
        ("dcgan", TINY, {"label_accuracy", "real_label_accuracy", "density", "coverage"}),
        ("dcgan", TINY_UNCONDITIONAL, {"density", "coverage"}),
        ("vae", TINY_UNCONDITIONAL, {"density", "coverage", "reconstruction_mse"}),
    ],
)
def test_measure_gives_what_the_model_has_labels_and_an_encoder_for(family: str, network: Any, names: set[str]) -> None:
    network = tiny_network(family, network)
    generator, encoder = FAMILIES[family].build(network)
    figures = measure(
        SPLIT,
        generator.eval(),
        None if encoder is None else encoder.eval(),
        latent_shape=network.latent_shape,
        num_classes=network.num_classes,
        image_range=FAMILIES[family].image_range,
    )
    assert set(figures) == names
