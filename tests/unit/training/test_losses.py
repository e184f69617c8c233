from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.ema import ema_decay, update_ema
from training.losses import (
    AdversarialLoss,
    discriminator_loss,
    elbo_terms,
    generator_loss,
    r1_penalty,
    sample_posterior,
)


def test_discriminator_loss_is_two_ln_two_when_it_cannot_tell() -> None:
    zeros = torch.zeros(7)
    assert discriminator_loss("non-saturating", zeros, zeros).item() == pytest.approx(2 * math.log(2))


def test_hinge_loss_is_zero_beyond_the_margin() -> None:
    assert discriminator_loss("hinge", torch.tensor([1.0, 5.0]), torch.tensor([-1.0, -3.0])).item() == 0.0
    assert generator_loss("hinge", torch.tensor([2.0, 4.0])).item() == -3.0


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["non-saturating", "hinge"]),
    scores=st.lists(st.floats(-20, 20), min_size=2, max_size=8),
)
def test_adversarial_losses_pull_against_each_other(kind: AdversarialLoss, scores: list[float]) -> None:
    fake = torch.tensor(scores, dtype=torch.float64)
    real = torch.zeros(len(scores))
    assert generator_loss(kind, fake + 1) < generator_loss(kind, fake)
    assert discriminator_loss(kind, real, fake + 1) >= discriminator_loss(kind, real, fake)


def test_r1_penalty_is_the_squared_slope_of_a_linear_score() -> None:
    slope = torch.randn(1, 8, 8)
    images = torch.randn(5, 1, 8, 8, requires_grad=True)
    penalty = r1_penalty((images * slope).sum(dim=(1, 2, 3)), images)
    assert penalty.item() == pytest.approx(slope.square().sum().item(), rel=1e-5)


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


def test_ema_decay_starts_short_and_ends_at_its_limit() -> None:
    assert ema_decay(0) == pytest.approx(0.1)
    assert ema_decay(90) == pytest.approx(0.91)
    assert ema_decay(1_000_000) == 0.999


def test_update_ema_averages_weights_and_batch_norm_buffers_and_copies_counters() -> None:
    average, network = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    network(torch.randn(8, 2, 4, 4) + 5)
    network.weight.data.fill_(2.0)
    update_ema(average, network, decay=0.75)
    assert average.weight.tolist() == [1.25, 1.25]
    assert torch.allclose(average.running_mean, 0.25 * network.running_mean)  # type: ignore[arg-type, operator]
    assert average.num_batches_tracked == 1
