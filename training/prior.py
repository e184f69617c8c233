"""What a trained VAE draws latents from: a mixture of Gaussians, fitted to where the encoder puts the training images.

A decoder holds it in buffers, so that it is saved with the weights. Until it is fitted it is the standard normal.

Source: sampling from a density fitted after training (arXiv:1903.12436).
"""

from __future__ import annotations

import base64
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganvas_core.prior import Mixture
from training.data.dataset import Dataset

__all__ = ["LearnedPrior", "fit_mixture", "fit_prior", "prior_of"]

MAX_IMAGES = 10_000
"""Images that a mixture is fitted to: more make no better one, and take longer."""

REGULARIZATION = 1e-3
"""Added to each variance, whose scale is that of the standard normal."""


class LearnedPrior(nn.Module):
    """The buffers of a mixture of K Gaussians in Z dimensions: see ganvas_core.prior.Mixture."""

    thresholds: Tensor
    table: Tensor

    def __init__(self, num_components: int, latent_dim: int) -> None:
        super().__init__()
        normal = torch.cat([torch.zeros(1, latent_dim), torch.eye(latent_dim)])
        self.register_buffer("thresholds", torch.arange(1, num_components) * (2**32 // num_components))
        self.register_buffer("table", normal.repeat(num_components, 1, 1))

    def mixture(self) -> Mixture:
        table = self.table.detach().cpu().numpy().astype("<f4")
        return Mixture(
            thresholds=tuple(self.thresholds.tolist()), table=base64.b64encode(table.tobytes()).decode("ascii")
        )

    @torch.no_grad()
    def set(self, mixture: Mixture) -> None:
        self.thresholds.copy_(torch.tensor(mixture.thresholds, dtype=torch.int64))
        self.table.copy_(torch.from_numpy(mixture.array.copy()))


def prior_of(generator: nn.Module) -> Mixture | None:
    """What a generator's latents are drawn from; None: the standard normal."""
    prior = getattr(generator, "prior", None)
    return prior.mixture() if isinstance(prior, LearnedPrior) else None


def fit_mixture(points: NDArray[np.float64], num_components: int, *, seed: int) -> Mixture:
    """A mixture of full covariances by expectation maximization, started from k-means.

    A component needs more points than dimensions: with few points there are fewer, and the others have no weight.

    Args:
        points: [M, Z].
    """
    # Whoever only loads a checkpoint waits for no scikit-learn.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    num_fitted = max(1, min(num_components, len(points) // (2 * points.shape[1] + 2)))
    model = GaussianMixture(num_fitted, covariance_type="full", reg_covar=REGULARIZATION, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture that is not quite the best will do
        model.fit(points)
    rows = np.minimum(np.arange(num_components), num_fitted - 1)
    weights = np.where(np.arange(num_components) < num_fitted, model.weights_[rows], 0.0)
    return Mixture.of(list(weights), model.means_[rows], np.linalg.cholesky(model.covariances_)[rows])


@torch.no_grad()
def fit_prior(
    encoder: nn.Module, generators: list[nn.Module], dataset: Dataset, image_range: tuple[float, float]
) -> None:
    """Fit the prior of these generators, which share one, to the posterior means of the training images.

    Args:
        encoder: in eval mode.
    """
    priors = [prior for one in generators if isinstance(prior := getattr(one, "prior", None), LearnedPrior)]
    if not priors:
        return
    low, high = image_range
    device = next(encoder.parameters()).device
    rows = torch.linspace(0, len(dataset) - 1, min(len(dataset), MAX_IMAGES)).long()
    means = []
    for part in torch.split(rows, 250):
        images = (dataset.images[part] / 255.0 * (high - low) + low).to(device)
        means.append(encoder(images)[0].flatten(1).double().cpu())
    points = torch.cat(means).numpy()
    if not np.isfinite(points).all():  # the run has diverged, which its weights say
        return
    mixture = fit_mixture(points, len(priors[0].table), seed=0)
    for prior in priors:
        prior.set(mixture)
