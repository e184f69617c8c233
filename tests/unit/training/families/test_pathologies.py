"""Each stabilizer against an illness planted for it: without it the training fails, with it it does not."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.gans import tiny_gan
from training.families import FAMILIES
from training.families.adversarial import AdversarialTrainer
from training.stabilizers.clip import clip_before_step
from training.stabilizers.ema import update_ema


class Point(nn.Module):
    """A generator of one image of one pixel, whatever the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(1.0))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.value.expand(len(z), 1, 1, 1)


class Slope(nn.Module):
    """A discriminator with one slope."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Linear(1, 1, bias=False)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.slope(x.flatten(1)).squeeze(1)  # type: ignore[no-any-return]


@cache
def distances_from_the_data(**options: Any) -> Tensor:
    """[100] How far from the real image, 0, the generator is in the last steps: the Dirac GAN of arXiv:1801.04406."""
    torch.manual_seed(0)
    config = tiny_gan("mlp-gan", num_classes=0, learning_rate=0.01, augment="none", total_kimg=3.2, **options)
    trainer = AdversarialTrainer(config, Point(), Slope(), num_images=1)
    rng, found = torch.Generator().manual_seed(0), []
    for step in range(400):
        trainer.step(step, torch.zeros(8, 1, 1, 1), None, rng)
        found.append(trainer.generator.get_parameter("value").abs().item())
    return torch.tensor(found[-100:])


@pytest.mark.parametrize("loss", ["relativistic", "non-saturating"])
def test_generator_circles_the_data_without_r1_and_comes_to_rest_with_it(loss: str) -> None:
    assert distances_from_the_data(loss=loss, penalty="none").max() > 0.2
    assert distances_from_the_data(loss=loss, penalty="r1+r2").max() < 0.01


def test_generator_comes_to_rest_when_the_learning_rate_falls() -> None:
    assert (
        distances_from_the_data(loss="relativistic", penalty="none", final_learning_rate=1e-6).diff().abs()[-20:].max()
        < 1e-4
    )
    assert distances_from_the_data(loss="relativistic", penalty="none").diff().abs()[-20:].max() > 1e-3


def outrun(**options: Any) -> tuple[float, float]:
    """Largest score, and steepest slope, of a discriminator that learns much faster than the generator."""
    torch.manual_seed(0)
    rates: dict[str, Any] = {"learning_rate": 1e-5, "discriminator_learning_rate": 0.02}
    config = tiny_gan("mlp-gan", num_classes=0, augment="none", loss="wasserstein", **rates, **options)
    trainer, rng = FAMILIES["mlp-gan"].trainer(config, 100), torch.Generator().manual_seed(0)
    assert isinstance(trainer, AdversarialTrainer)
    for step in range(100):
        trainer.step(step, 0.5 + 0.5 * torch.rand(8, 1, 8, 8, generator=rng), None, rng)
    images = (0.5 + 0.5 * torch.rand(64, 1, 8, 8, generator=rng)).requires_grad_(True)
    scores = trainer.discriminator.eval()(images, None)
    (slopes,) = torch.autograd.grad(scores.sum(), images)
    return scores.abs().max().item(), slopes.flatten(1).norm(dim=1).max().item()


def test_discriminator_explodes_unless_its_slope_is_bounded() -> None:
    score, slope = outrun(penalty="none")
    assert score > 1000
    assert slope > 100
    score, slope = outrun(penalty="none", spectral_norm=True)
    assert score < 16  # the diameter of the images
    assert slope < 1.1
    score, slope = outrun(penalty="wgan-gp", gamma=10.0)
    assert score < 100
    assert slope < 4
    score, slope = outrun(penalty="r1+r2", gamma=10.0)
    assert score < 10
    assert slope < 2


def test_one_monstrous_gradient_stops_adam_for_long_unless_it_is_clipped() -> None:
    moved = []
    for max_norm in (None, 1.0):
        weight = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.Adam([weight], lr=0.01, betas=(0.0, 0.99))
        if max_norm is not None:
            clip_before_step(optimizer, max_norm)
        for step in range(60):
            weight.grad = torch.tensor([1e6 if step == 0 else 1.0])
            optimizer.step()
        moved.append(-weight.item())
    assert moved[0] < 0.02
    assert moved[1] > 0.5


def test_average_of_weights_that_circle_is_in_the_middle() -> None:
    average, network = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for step in range(2000):
        network.weight.data.fill_(3.0 + torch.tensor(step / 10).sin().item())
        update_ema(average, network, decay=0.99)
    assert average.weight.item() == pytest.approx(3.0, abs=0.15)


def memorized(**options: Any) -> tuple[float, float]:
    """How much higher a discriminator scores 16 images that it trains on than others; and augment's probability."""
    torch.manual_seed(0)
    options = {"penalty": "none", "loss": "non-saturating", "learning_rate": 2e-3, **options}
    config = tiny_gan("mlp-gan", num_classes=0, augment_kimg=0.6, **options)
    config = dataclasses.replace(config, discriminator_dim=64)  # type: ignore[call-arg]
    trainer, rng = FAMILIES["mlp-gan"].trainer(config, 16), torch.Generator().manual_seed(0)
    assert isinstance(trainer, AdversarialTrainer)
    known, unknown = torch.rand(2, 16, 1, 8, 8, generator=rng) * 2 - 1
    for step in range(120):
        chosen = torch.randperm(16, generator=rng)[:8]
        trainer.step(step, known[chosen], None, rng)
    with torch.no_grad():
        gap = trainer.discriminator(known, None).mean() - trainer.discriminator(unknown, None).mean()
    return gap.item(), trainer.state.get("augment_probability", 0.0)


def test_discriminator_knows_its_images_by_heart_unless_they_are_augmented() -> None:
    plain, _ = memorized(augment="none")
    fixed, _ = memorized(augment="fixed", augment_probability=0.8)
    adaptive, probability = memorized(augment="auto")
    assert fixed < 0.5 * plain
    assert adaptive < 0.8 * plain
    assert probability > 0.2
