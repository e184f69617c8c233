"""The prior that a VAE learns: fitted after training, kept with the weights, drawn from everywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.adapters.checkpoint import load_checkpoint
from export.errors import InputError
from ganvas_core import noise
from tests.support.training import save_tiny, tiny_config, tiny_network
from training.data.digits import split_digits
from training.families import FAMILIES
from training.loop import train
from training.prior import LearnedPrior, fit_mixture, fit_prior, prior_of
from training.run.checkpoint import load_model
from training.run.folder import create
from training.run.samples import draw_samples

MEANS = np.array([[-4.0, 0.0], [4.0, 1.0]])
WIDE = np.array([[1.0, 0.8], [0.8, 1.0]])


def points(count: int = 4000) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A quarter round and narrow, three quarters wide and slanted."""
    rng = np.random.default_rng(0)
    narrow = rng.multivariate_normal(MEANS[0], 0.04 * np.eye(2), count // 4)
    return np.concatenate([narrow, rng.multivariate_normal(MEANS[1], WIDE, 3 * count // 4)])


def test_fit_mixture_finds_what_the_points_were_drawn_from() -> None:
    mixture = fit_mixture(points(), np.zeros((4000, 2)), 2, seed=0)
    order = np.argsort(mixture.array[:, 0, 0])
    np.testing.assert_allclose(mixture.array[order, 0], MEANS, atol=0.1)
    np.testing.assert_allclose(mixture.weights[order], [0.25, 0.75], atol=0.01)
    factor = mixture.array[order[1], 1:].T
    np.testing.assert_allclose(factor @ factor.T, WIDE, atol=0.1)
    z = noise.truncated_latents(np.arange(8000, dtype=np.uint64), 1.0, 2, mixture)
    np.testing.assert_allclose(np.cov(z.T), np.cov(points().T), rtol=0.1, atol=0.1)


def test_fit_mixture_of_few_points_leaves_components_without_weight() -> None:
    mixture = fit_mixture(np.random.default_rng(0).normal(size=(13, 2)), np.ones((13, 2)), 5, seed=0)
    assert len(mixture.weights) == 5
    assert (mixture.weights > 1e-6).sum() == 2


def test_fit_mixture_has_the_spread_of_the_posteriors_too() -> None:
    means = points()
    variances = np.where(means[:, :1] < 0, [0.5, 2.0], [1.0, 0.0])
    mixture = fit_mixture(means, variances, 2, seed=0)
    narrow, wide = mixture.array[np.argsort(mixture.array[:, 0, 0]), 1:].swapaxes(1, 2)
    np.testing.assert_allclose(narrow @ narrow.T, 0.04 * np.eye(2) + np.diag([0.5, 2.0]), atol=0.1)
    np.testing.assert_allclose(wide @ wide.T, WIDE + np.diag([1.0, 0.0]), atol=0.1)


@pytest.mark.parametrize("num_components", [2, 5])
def test_fit_mixture_gives_each_label_components_of_its_own(num_components: int) -> None:
    means = points()
    labels = (means[:, 0] > 0).astype(np.int64)
    mixture = fit_mixture(means, np.zeros((4000, 2)), num_components, labels=labels, num_labels=2, seed=0)
    assert len(mixture.weights) == num_components
    np.testing.assert_allclose([mixture.weights[: num_components // 2].sum()], [0.25], atol=0.01)
    seeds = np.arange(6000, dtype=np.uint64)
    for label in range(2):
        z = noise.truncated_latents(seeds, 1.0, 2, mixture, np.full(6000, label))
        mine = means[labels == label]
        np.testing.assert_allclose(z.mean(0), mine.mean(0), atol=0.1)
        np.testing.assert_allclose(np.cov(z.T), np.cov(mine.T), rtol=0.15, atol=0.05)


def test_fit_mixture_draws_a_label_without_images_from_all_of_them() -> None:
    means = points()
    mixture = fit_mixture(means, np.zeros((4000, 2)), 2, labels=np.zeros(4000, np.int64), num_labels=2, seed=0)
    z = noise.truncated_latents(np.arange(6000, dtype=np.uint64), 1.0, 2, mixture, np.ones(6000, np.int64))
    np.testing.assert_allclose(z.mean(0), means.mean(0), atol=0.2)


def test_prior_of_a_checkpoint_of_before_labels_is_the_same_for_each() -> None:
    old, new = LearnedPrior(4, 3), LearnedPrior(4, 3, 2)
    nn.init.normal_(old.table)
    old.thresholds.copy_(torch.tensor([7, 8, 9]))
    state = {name: tensor for name, tensor in old.state_dict().items() if name != "label_thresholds"}
    new.load_state_dict(state)
    assert new.mixture().label_thresholds == ((7, 8, 9), (7, 8, 9))
    LearnedPrior(4, 3).load_state_dict(state)


def test_a_prior_that_is_not_fitted_is_the_standard_normal() -> None:
    prior = LearnedPrior(4, 3)
    assert np.allclose(prior.mixture().weights, 0.25)
    drawn = noise.truncated_latents([1, 2], 0.5, 3, prior.mixture())
    assert np.array_equal(drawn, noise.truncated_latents([1, 2], 0.5, 3))


class Shifted(nn.Module):
    """An encoder that puts every image at its mean brightness, and brightness squared."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        bright = images.mean(dim=(1, 2, 3))
        z = torch.stack([5 * bright, 25 * bright.square()], dim=1)
        return z, torch.zeros_like(z)


def test_fit_prior_is_of_the_encoded_training_images_for_both_networks() -> None:
    network = dataclasses.replace(tiny_network("vae"), latent_dim=2, prior_components=3)
    live, average = (FAMILIES["vae"].build(network)[0] for _ in range(2))
    data = split_digits(8).train
    fit_prior(Shifted().eval(), [live, average], data, (0.0, 1.0))
    mixture = prior_of(average)
    assert mixture is not None
    assert mixture == prior_of(live)
    encoded = Shifted()(data.images / 255.0)[0].detach().numpy()
    mean = (mixture.weights[:, None] * mixture.array[:, 0]).sum(0)
    np.testing.assert_allclose(mean, encoded.mean(0), atol=0.02)


def test_samples_are_drawn_from_the_prior_of_the_generator() -> None:
    torch.manual_seed(0)
    network = dataclasses.replace(tiny_network("vae"), prior_components=2)
    decoder: Any = FAMILIES["vae"].build(network)[0].eval()
    nn.init.normal_(decoder.prior.table)
    seeds, labels = torch.arange(5), torch.arange(5)
    z = torch.from_numpy(noise.truncated_latents(range(5), 1.0, 4, prior_of(decoder)))
    assert torch.equal(draw_samples(decoder, seeds, labels, latent_shape=(4,)), decoder(z, labels).detach())
    decoder.prior = None
    plain = torch.from_numpy(noise.latents(range(5), 4))
    assert torch.equal(draw_samples(decoder, seeds, labels, latent_shape=(4,)), decoder(plain, labels).detach())


def test_training_saves_the_prior_that_it_fitted(tmp_path: Path) -> None:
    network = dataclasses.replace(tiny_network("vae"), prior_components=3)
    config = tiny_config("vae", network=network, total_kimg=0.16, save_kimg=0.16, samples_kimg=0.16)
    create(tmp_path / "run", config, overwrite=False)
    assert train(config, tmp_path / "run").finished
    model = load_model(tmp_path / "run" / "checkpoint")
    assert model.prior is not None
    assert model.encoder is not None
    generator: Any = FAMILIES["vae"].build(network)[0]
    fit_prior(model.encoder, [generator], split_digits(8).train, (0.0, 1.0))
    again = prior_of(generator)
    assert again is not None
    np.testing.assert_allclose(again.array, model.prior.array, atol=1e-2)
    assert np.abs(again.array[:, 0]).max() > 1e-3
    assert load_checkpoint(tmp_path / "run" / "checkpoint").prior == model.prior
    assert load_checkpoint(tmp_path / "run" / "checkpoint", prior="normal").prior is None


def test_export_rejects_the_mixture_of_a_checkpoint_without_one(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c", "vae")
    assert load_checkpoint(tmp_path / "c").prior is None
    with pytest.raises(InputError, match=r"--prior mixture: .* has none. Train it with --set network.prior_components"):
        load_checkpoint(tmp_path / "c", prior="mixture")
