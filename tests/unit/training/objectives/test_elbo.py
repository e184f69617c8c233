"""Likelihoods and the KL term against their definitions, gradients included."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.objectives.elbo import charged_divergence, divergence, sample_posterior, warm_up
from training.objectives.likelihoods import LIKELIHOODS, MIN_LOG_SCALE

SHAPE = (4, 3, 5, 5)


def example(channels: int = 3) -> tuple[Tensor, Tensor]:
    """Logits, and images of 256 levels with black and white among them."""
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, channels, 5, 5, generator=rng)
    images = torch.randint(0, 256, (4, channels, 5, 5), generator=rng) / 255
    images[:, :, 0], images[:, :, 1] = 0.0, 1.0
    return logits, images


def bent(log_scale: Tensor) -> Tensor:
    return (MIN_LOG_SCALE + torch.log1p(torch.exp(log_scale - MIN_LOG_SCALE))).reshape(1, -1, 1, 1)


def by_hand(name: str, logits: Tensor, images: Tensor, log_scale: Tensor) -> Tensor:
    """-log p in float64, from the definition."""
    mean = torch.sigmoid(logits)
    if name == "bernoulli":
        return -(images * mean.log() + (1 - images) * (1 - mean).log()).sum((1, 2, 3))
    if name == "gaussian":
        sigma = bent(log_scale).exp()
        density = torch.exp(-(((images - mean) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
        return -density.log().sum((1, 2, 3))
    scale = bent(log_scale).exp()
    upper = torch.where(images > 0.999, 1.0, torch.sigmoid((images + 0.5 / 255 - mean) / scale))
    lower = torch.where(images < 0.001, 0.0, torch.sigmoid((images - 0.5 / 255 - mean) / scale))
    return -(upper - lower).log().sum((1, 2, 3))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood_and_its_gradients_are_those_of_the_definition(name: str) -> None:
    logits, images = example(1 if name == "bernoulli" else 3)
    log_scale = torch.linspace(-3.0, -1.0, logits.shape[1])
    parts: list[Tensor] = []
    for kind in (torch.float32, torch.float64):
        x, s = (tensor.detach().to(kind, copy=True).requires_grad_() for tensor in (logits, log_scale))
        if kind == torch.float32:
            error = LIKELIHOODS[name].error(x, images, s if LIKELIHOODS[name].has_scale else None)
        else:
            error = by_hand(name, x, images.double(), s)
        assert error.shape == (4,)
        torch.autograd.backward(error.sum())
        assert x.grad is not None
        parts += [error.detach().double(), x.grad.double(), torch.zeros(1) if s.grad is None else s.grad.double()]
    for found, expected in zip(parts[:3], parts[3:], strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=2e-4, atol=2e-4)


def test_logistic_gives_the_256_levels_a_probability_of_one() -> None:
    levels = (torch.arange(256) / 255).reshape(256, 1, 1, 1)
    logits = torch.full((256, 1, 1, 1), 0.7)
    error = LIKELIHOODS["logistic"].error(logits, levels, torch.tensor([-2.5]))
    assert torch.exp(-error.double()).sum().item() == pytest.approx(1.0, abs=1e-5)


def test_logistic_stays_finite_where_a_difference_of_two_sigmoids_vanishes() -> None:
    images, logits = torch.ones(1, 1, 1, 2) * 0.5, torch.tensor([[[[30.0, -30.0]]]]).requires_grad_()
    error = LIKELIHOODS["logistic"].error(logits, images, torch.tensor([-20.0]))
    torch.autograd.backward(error.sum())
    assert torch.isfinite(error).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gaussian_learns_the_deviation_of_the_errors() -> None:
    images = 0.5 + 0.1 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    log_scale = torch.nn.Parameter(torch.tensor([-1.0]))
    adam = torch.optim.Adam([log_scale], lr=0.05)
    for _ in range(150):
        adam.zero_grad()
        torch.autograd.backward(LIKELIHOODS["gaussian"].error(torch.zeros_like(images), images, log_scale).mean())
        adam.step()
    assert bent(log_scale.detach()).exp().item() == pytest.approx(0.1, rel=0.02)


def test_divergence_and_its_gradient_are_those_of_two_normals() -> None:
    mean, logvar = torch.randn(4, 6).requires_grad_(), torch.randn(4, 6).requires_grad_()
    found = divergence(mean, logvar)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * logvar))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(found, expected)
    torch.autograd.backward(found.sum())
    assert mean.grad is not None
    assert logvar.grad is not None
    torch.testing.assert_close(mean.grad, mean.detach())
    torch.testing.assert_close(logvar.grad, 0.5 * (logvar.detach().exp() - 1))


def test_charged_divergence_charges_nothing_below_the_free_bits() -> None:
    nats = torch.tensor([[0.1, 3.0], [0.3, 1.0]], requires_grad=True)
    assert charged_divergence(nats, 0.0).item() == pytest.approx(0.2 + 2.0)
    charged = charged_divergence(nats, 1.0)
    assert charged.item() == pytest.approx(math.log(2) + 2.0)
    torch.autograd.backward(charged)
    assert nats.grad is not None
    assert nats.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]


def test_warm_up_rises_straight_and_stays() -> None:
    assert [warm_up(4.0, kimg, 10.0) for kimg in (0.0, 2.5, 10.0, 99.0)] == [0.0, 1.0, 4.0, 4.0]
    assert warm_up(4.0, 0.0, 0.0) == 4.0


def test_sample_posterior_has_its_mean_and_spread() -> None:
    mean, logvar = torch.full((20000, 1), 3.0), torch.full((20000, 1), math.log(4.0))
    z = sample_posterior(mean, logvar, torch.randn(20000, 1, generator=torch.Generator().manual_seed(0)))
    assert z.mean().item() == pytest.approx(3.0, abs=0.05)
    assert z.std().item() == pytest.approx(2.0, abs=0.05)


def test_sample_posterior_adds_the_noise_in_its_own_direction() -> None:
    z = sample_posterior(torch.tensor([[1.0]]), torch.tensor([[math.log(9.0)]]), torch.tensor([[0.5]]))
    assert z.item() == pytest.approx(2.5)
