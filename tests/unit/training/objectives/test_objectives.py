from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.objectives.adversarial import ADVERSARIAL_LOSSES
from training.objectives.penalties import slope_penalty, squared_slope

NO_SCORES = torch.empty(0)


def test_discriminator_loss_is_two_ln_two_when_it_cannot_tell() -> None:
    zeros = torch.zeros(7)
    assert ADVERSARIAL_LOSSES["non-saturating"].discriminator(zeros, zeros).item() == pytest.approx(2 * math.log(2))


def test_hinge_loss_is_zero_beyond_the_margin() -> None:
    hinge = ADVERSARIAL_LOSSES["hinge"]
    assert hinge.discriminator(torch.tensor([1.0, 5.0]), torch.tensor([-1.0, -3.0])).item() == 0.0
    assert hinge.generator(NO_SCORES, torch.tensor([2.0, 4.0])).item() == -3.0


def test_hinge_loss_grows_by_one_for_each_score_within_the_margin() -> None:
    hinge = ADVERSARIAL_LOSSES["hinge"]
    assert hinge.discriminator(torch.tensor([0.25]), torch.tensor([-1.0])).item() == 0.75
    assert hinge.discriminator(torch.tensor([1.0]), torch.tensor([-0.25])).item() == 0.75


def test_non_saturating_losses_are_the_cross_entropies_of_the_scores() -> None:
    loss, real, fake = ADVERSARIAL_LOSSES["non-saturating"], torch.tensor([0.5, 2.0]), torch.tensor([-1.0, 3.0])
    expected = -torch.sigmoid(real).log().mean() - (1 - torch.sigmoid(fake)).log().mean()
    assert loss.discriminator(real, fake).item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.generator(NO_SCORES, fake).item() == pytest.approx(-torch.sigmoid(fake).log().mean().item(), rel=1e-5)


FORMULAS: dict[str, tuple[Any, Any]] = {
    # d loss / d real and d loss / d fake of the discriminator, then d loss / d fake of the generator, for one image.
    "relativistic": (lambda r, f: (-sigma(f - r), sigma(f - r)), lambda r, f: -sigma(r - f)),
    "non-saturating": (lambda r, f: (-sigma(-r), sigma(f)), lambda r, f: -sigma(-f)),
    "minimax": (lambda r, f: (-sigma(-r), sigma(f)), lambda r, f: -sigma(f)),
    "least-squares": (lambda r, f: (r - 1, f), lambda r, f: f - 1),
    "hinge": (lambda r, f: (-float(r < 1), float(f > -1)), lambda r, f: -1.0),
    "wasserstein": (lambda r, f: (-1.0, 1.0), lambda r, f: -1.0),
}


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@settings(max_examples=20, deadline=None)
@given(scores=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=4))
@pytest.mark.parametrize("kind", sorted(ADVERSARIAL_LOSSES))
def test_gradient_of_a_loss_is_its_formula(kind: str, scores: list[tuple[float, float]]) -> None:
    loss, (of_discriminator, of_generator) = ADVERSARIAL_LOSSES[kind], FORMULAS[kind]
    real, fake = (torch.tensor(column, requires_grad=True) for column in zip(*scores, strict=True))
    found = torch.autograd.grad(loss.discriminator(real, fake), [real, fake])
    for i, (r, f) in enumerate(zip(real.tolist(), fake.tolist(), strict=True)):
        expected = of_discriminator(r, f)
        assert [len(scores) * float(part[i]) for part in found] == pytest.approx(list(expected), abs=1e-5)
    (found_fake,) = torch.autograd.grad(loss.generator(real.detach(), fake), [fake])
    for i, (r, f) in enumerate(zip(real.tolist(), fake.tolist(), strict=True)):
        assert len(scores) * float(found_fake[i]) == pytest.approx(of_generator(r, f), abs=1e-5)


@pytest.mark.parametrize("kind", sorted(ADVERSARIAL_LOSSES))
def test_accuracy_and_sign_see_whether_the_discriminator_is_right(kind: str) -> None:
    loss, high, low = ADVERSARIAL_LOSSES[kind], torch.tensor([2.0, 3.0]), torch.tensor([-2.0, -1.0])
    assert loss.accuracy(high, low) == 1.0
    assert loss.accuracy(low, high) == 0.0
    assert loss.accuracy(torch.tensor([2.0, -3.0]), torch.tensor([-2.0, 1.0])) == 0.5
    assert loss.real_sign(high, low) == 1.0
    assert loss.real_sign(low, high) == -1.0


def test_slope_penalty_is_zero_for_a_slope_of_one_and_grows_by_the_square() -> None:
    rng = torch.Generator().manual_seed(0)
    slope = torch.randn(1, 2, 4, 4, generator=rng)
    slope /= slope.norm()
    real, fake = torch.randn(2, 5, 2, 4, 4, generator=rng)
    for factor in (1.0, 3.0):
        penalty = slope_penalty(lambda x, f=factor: (x * slope * f).sum((1, 2, 3)), real, fake, rng)  # type: ignore[misc]
        assert penalty.item() == pytest.approx((factor - 1) ** 2, abs=1e-5)


def lowest_loss(name: str, fakes: list[int], *, pairs: str) -> float:
    """The discriminator's loss at its best, by a free score for each place: data at 0 to 7, and nothing at place 8.

    Args:
        fakes: the place of each sample.
        pairs: "fixed", each sample with one real point; "all", with every one, as pairs drawn anew are in the mean.
    """
    real, fake = torch.arange(8), torch.tensor(fakes)
    if pairs == "all":
        real, fake = real.repeat_interleave(8), fake.repeat(8)
    scores = torch.zeros(9, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = ADVERSARIAL_LOSSES[name].discriminator(scores[real], scores[fake]) + 1e-6 * scores.square().sum()
        torch.autograd.backward(value)
        return value.item()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return loss()


ONE_DROPPED, ON_ITS_WAY, ALL_THERE = [0, 0, 2, 3, 4, 5, 6, 7], [0, 8, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("name", "cost"), [("non-saturating", 0.38), ("relativistic", 0.37)])
def test_sample_that_leaves_a_crowded_mode_loses_before_it_gains(name: str, cost: float) -> None:
    """Of two samples on one mode one goes to the mode that nobody is on. cost: what is lost on the way, of the gain."""
    dropped, way, there = (lowest_loss(name, fakes, pairs="all") for fakes in (ONE_DROPPED, ON_ITS_WAY, ALL_THERE))
    assert (dropped - way) / (there - way) == pytest.approx(cost, abs=0.01)


def test_sample_that_leaves_a_crowded_mode_loses_nothing_in_fixed_relativistic_pairs() -> None:
    """No such valley is the case for pairing: Sun et al. (arXiv:2011.04926). Training draws its pairs anew."""
    dropped, way, there = (
        lowest_loss("relativistic", fakes, pairs="fixed") for fakes in (ONE_DROPPED, ON_ITS_WAY, ALL_THERE)
    )
    assert way == pytest.approx(dropped, abs=1e-3)
    assert there > dropped + 0.05


def test_slope_penalty_looks_between_the_real_image_and_the_fake_one() -> None:
    seen: list[torch.Tensor] = []

    def score(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.detach())
        return images.sum((1, 2, 3))

    real, fake = torch.ones(200, 1, 1, 1), torch.zeros(200, 1, 1, 1)
    slope_penalty(score, real, fake, torch.Generator().manual_seed(0))
    assert seen[0].min() < 0.1 < 0.9 < seen[0].max()


def test_squared_slope_is_the_squared_slope_of_a_linear_score() -> None:
    slope = torch.randn(1, 8, 8)
    images = torch.randn(5, 1, 8, 8, requires_grad=True)
    penalty = squared_slope((images * slope).sum(dim=(1, 2, 3)), images)
    assert penalty.item() == pytest.approx(slope.square().sum().item(), rel=1e-5)


def test_squared_slope_has_a_gradient_for_the_discriminator() -> None:
    weight = torch.full((1, 2, 2), 0.5, requires_grad=True)
    images = torch.randn(3, 1, 2, 2, requires_grad=True)
    squared_slope((images * weight).sum(dim=(1, 2, 3)), images).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == pytest.approx([1.0] * 4)  # d/dw of the sum of w²
