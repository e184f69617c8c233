from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.objectives.adversarial import ADVERSARIAL_LOSSES, r1_penalty
from training.objectives.elbo import elbo_terms, sample_posterior

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


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(sorted(ADVERSARIAL_LOSSES)), scores=st.lists(st.floats(-20, 20), min_size=2, max_size=8))
def test_adversarial_losses_pull_against_each_other(kind: str, scores: list[float]) -> None:
    loss = ADVERSARIAL_LOSSES[kind]
    fake, real = torch.tensor(scores, dtype=torch.float64), torch.zeros(len(scores))
    assert loss.generator(real, fake + 1) < loss.generator(real, fake)
    assert loss.discriminator(real, fake + 1) >= loss.discriminator(real, fake)


def test_r1_penalty_is_the_squared_slope_of_a_linear_score() -> None:
    slope = torch.randn(1, 8, 8)
    images = torch.randn(5, 1, 8, 8, requires_grad=True)
    penalty = r1_penalty((images * slope).sum(dim=(1, 2, 3)), images)
    assert penalty.item() == pytest.approx(slope.square().sum().item(), rel=1e-5)


def test_r1_penalty_has_a_gradient_for_the_discriminator() -> None:
    weight = torch.full((1, 2, 2), 0.5, requires_grad=True)
    images = torch.randn(3, 1, 2, 2, requires_grad=True)
    r1_penalty((images * weight).sum(dim=(1, 2, 3)), images).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == pytest.approx([1.0] * 4)  # d/dw of the sum of w²


def test_elbo_terms_are_zero_for_a_sure_decoder_and_the_prior() -> None:
    images = (torch.rand(3, 1, 8, 8) > 0.5).float()
    error, divergence = elbo_terms((images - 0.5) * 200, images, torch.zeros(3, 4), torch.zeros(3, 4))
    assert error.item() == pytest.approx(0.0, abs=1e-6)
    assert divergence.item() == 0.0


def test_elbo_terms_agree_with_their_definitions() -> None:
    logits, images = torch.randn(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    mean, logvar = torch.randn(4, 6), torch.randn(4, 6)
    error, divergence = elbo_terms(logits, images, mean, logvar)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * logvar))
    prior = torch.distributions.Normal(torch.zeros(6), torch.ones(6))
    expected = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()
    chance = torch.sigmoid(logits)
    log_likelihood = images * chance.log() + (1 - images) * (1 - chance).log()
    assert divergence.item() == pytest.approx(expected.item(), rel=1e-5)
    assert error.item() == pytest.approx(-log_likelihood.sum(dim=(1, 2, 3)).mean().item(), rel=1e-5)


def test_sample_posterior_has_its_mean_and_spread() -> None:
    mean, logvar = torch.full((20000, 1), 3.0), torch.full((20000, 1), math.log(4.0))
    z = sample_posterior(mean, logvar, torch.randn(20000, 1, generator=torch.Generator().manual_seed(0)))
    assert z.mean().item() == pytest.approx(3.0, abs=0.05)
    assert z.std().item() == pytest.approx(2.0, abs=0.05)


def test_sample_posterior_adds_the_noise_in_its_own_direction() -> None:
    z = sample_posterior(torch.tensor([[1.0]]), torch.tensor([[math.log(9.0)]]), torch.tensor([[0.5]]))
    assert z.item() == pytest.approx(2.5)
