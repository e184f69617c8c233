from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.stabilizers.augment import MAX_PROBABILITY, AdaptiveProbability, augment


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(num_images: int = 200, size: int = 16) -> Tensor:
    return torch.rand(num_images, 3, size, size, generator=rng(9)) * 2 - 1


def test_augment_leaves_images_alone_at_probability_0_and_changes_the_chosen_share() -> None:
    x = images()
    assert torch.equal(augment(x, 0.0, rng()), x)
    changed = (augment(x, 0.3, rng()) != x).flatten(1).any(1).float().mean().item()
    assert changed == pytest.approx(1 - 0.7**3, abs=0.08)
    assert (augment(x, 1.0, rng()) != x).flatten(1).any(1).all()


def test_augment_repeats_itself_with_the_same_random_stream_only() -> None:
    x = images(8)
    assert torch.equal(augment(x, 0.5, rng(1)), augment(x, 0.5, rng(1)))
    assert not torch.equal(augment(x, 0.5, rng(1)), augment(x, 0.5, rng(2)))


def test_augment_covers_a_quarter_of_a_flat_image_at_most_and_shifts_it_by_an_eighth_at_most() -> None:
    flat = torch.ones(300, 1, 16, 16)
    result = augment(flat, 1.0, rng())
    empty = (result == 0).float().mean(dim=(1, 2, 3))
    assert empty.max() <= 0.25 + 1 - (14 / 16) ** 2
    assert empty.mean() > 0.1


def test_augment_of_a_grey_image_stays_grey_and_of_a_constant_color_keeps_its_order() -> None:
    grey = augment(images(50)[:, :1].expand(-1, 3, -1, -1), 1.0, rng())
    torch.testing.assert_close(grey[:, 0], grey[:, 2])


def test_augment_mirrors_only_when_asked() -> None:
    ramp = torch.linspace(-1, 1, 16).expand(100, 1, 16, 16)

    def descends(x: Tensor) -> float:
        """Share of images whose left half is brighter than their right one."""
        return (x[..., :8].mean((1, 2, 3)) > x[..., 8:].mean((1, 2, 3))).float().mean().item()

    assert descends(augment(ramp, 1.0, rng(), flip=True)) == pytest.approx(0.5, abs=0.15)
    assert descends(augment(ramp, 1.0, rng())) < 0.15


def test_augment_may_be_differentiated_twice() -> None:
    x = images(4, 8).requires_grad_(True)
    scores = augment(x, 1.0, rng(), flip=True).pow(3).sum()
    (slope,) = torch.autograd.grad(scores, x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), x)
    assert slope.abs().sum() > 0
    assert curvature.abs().sum() > 0
    assert torch.isfinite(curvature).all()


def test_adaptive_probability_rises_while_the_signs_are_high_and_falls_back() -> None:
    adaptive = AdaptiveProbability(target=0.6, full_kimg=1.0)
    adaptive.update(torch.tensor(0.5), 100)
    assert adaptive.value == 0.0
    for _ in range(3):
        adaptive.update(torch.tensor(1.0), 100)
    assert adaptive.value == pytest.approx(0.3)
    for _ in range(50):
        adaptive.update(torch.tensor(1.0), 100)
    assert adaptive.value == MAX_PROBABILITY
    for _ in range(50):
        adaptive.update(torch.tensor(0.0), 100)
    assert adaptive.value == 0.0
