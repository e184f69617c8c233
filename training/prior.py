"""What a trained VAE draws latents from: a mixture of Gaussians, fitted to where the encoder puts the training images.

It is fitted to the posteriors, their spread included: the decoder was trained on all of it, not on the means alone. A
conditional decoder has components of its own for each label, where there are enough of them. For the encoder takes no
label, so that a latent tells of the class too, and one of another class decodes into neither.

A decoder holds it in buffers, so that it is saved with the weights. Until it is fitted it is the standard normal.

Source: sampling from a density fitted after training (arXiv:1903.12436).
"""

from __future__ import annotations

import base64
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganvas_core.prior import Mixture
from training.data.dataset import Dataset

Floats = NDArray[np.float64]

__all__ = ["LearnedPrior", "fit_mixture", "fit_prior", "prior_of"]

MAX_IMAGES = 10_000
"""Images that a mixture is fitted to: more make no better one, and take longer."""

REGULARIZATION = 1e-3
"""Added to each variance, whose scale is that of the standard normal."""


class LearnedPrior(nn.Module):
    """The buffers of a mixture of K Gaussians in Z dimensions: see ganvas_core.prior.Mixture."""

    thresholds: Tensor
    label_thresholds: Tensor
    table: Tensor

    def __init__(self, num_components: int, latent_dim: int, num_labels: int = 0) -> None:
        """num_labels: that it depends on; 0: on none."""
        super().__init__()
        normal = torch.cat([torch.zeros(1, latent_dim), torch.eye(latent_dim)])
        self.register_buffer("thresholds", torch.arange(1, num_components) * (2**32 // num_components))
        self.register_buffer("label_thresholds", self.thresholds.repeat(num_labels, 1))
        self.register_buffer("table", normal.repeat(num_components, 1, 1))

    def mixture(self) -> Mixture:
        table = self.table.detach().cpu().numpy().astype("<f4")
        return Mixture(
            thresholds=tuple(self.thresholds.tolist()),
            label_thresholds=tuple(tuple(row) for row in self.label_thresholds.tolist()),
            table=base64.b64encode(table.tobytes()).decode("ascii"),
        )

    @torch.no_grad()
    def set(self, mixture: Mixture) -> None:
        self.thresholds.copy_(torch.tensor(mixture.thresholds, dtype=torch.int64))
        if len(self.label_thresholds):
            rows = mixture.label_thresholds or [mixture.thresholds] * len(self.label_thresholds)
            self.label_thresholds.copy_(torch.tensor(rows, dtype=torch.int64))
        self.table.copy_(torch.from_numpy(mixture.array.copy()))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Checkpoints of before components depended on labels have the same for each."""
        if f"{prefix}thresholds" in state_dict:
            shared = state_dict[f"{prefix}thresholds"].repeat(len(self.label_thresholds), 1)
            state_dict.setdefault(f"{prefix}label_thresholds", shared)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def prior_of(generator: nn.Module) -> Mixture | None:
    """What a generator's latents are drawn from; None: the standard normal."""
    prior = getattr(generator, "prior", None)
    return prior.mixture() if isinstance(prior, LearnedPrior) else None


@dataclass(frozen=True, kw_only=True)
class _Gaussians:
    """K of them: weights [K], means [K, Z], covariances [K, Z, Z]."""

    weights: Floats
    means: Floats
    covariances: Floats


def fit_mixture(
    means: Floats,
    variances: Floats,
    num_components: int,
    *,
    labels: NDArray[np.int64] | None = None,
    num_labels: int = 0,
    seed: int,
) -> Mixture:
    """A mixture of full covariances, which has the moments of the posteriors that fall to each component.

    A component needs more points than dimensions: with few points there are fewer, and the others have no weight.

    Args:
        means, variances: [M, Z], of a posterior each.
        labels: [M], where the mixture depends on them.
        num_labels: 0 where it does not; else each has an equal number of the components.
    """
    if not num_labels:
        found = _expectation_maximization(means, variances, num_components, seed=seed)
        return Mixture.of(list(found.weights), found.means, np.linalg.cholesky(found.covariances))
    assert labels is not None
    each = num_components // num_labels
    weights = np.zeros((num_labels, num_components))
    parts = []
    for label in range(num_labels):
        rows = labels == label
        if not rows.any():  # a label without images: its latents may be any
            rows = np.ones_like(rows)
        part = _expectation_maximization(means[rows], variances[rows], each, seed=seed)
        weights[label, label * each : (label + 1) * each] = part.weights
        parts.append(part)
    spare = num_components - num_labels * each  # of no weight
    centers, covariances = (
        np.concatenate([*(getattr(part, name) for part in parts), getattr(parts[-1], name)[[-1] * spare]])
        for name in ("means", "covariances")
    )
    shares = np.bincount(labels, minlength=num_labels) / len(labels)
    return Mixture.of(list(shares @ weights), centers, np.linalg.cholesky(covariances), weights.tolist())


def _expectation_maximization(means: Floats, variances: Floats, num_components: int, *, seed: int) -> _Gaussians:
    """Of the means, started from k-means; then each component takes on the mean variance of what falls to it."""
    # Whoever only loads a checkpoint waits for no scikit-learn.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    num_fitted = max(1, min(num_components, len(means) // (2 * means.shape[1] + 2)))
    model = GaussianMixture(num_fitted, covariance_type="full", reg_covar=REGULARIZATION, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture that is not quite the best will do
        model.fit(means)
    shares = model.predict_proba(means)
    spread = shares.T @ variances / np.maximum(shares.sum(axis=0), 1e-12)[:, None]
    covariances = model.covariances_ + spread[:, :, None] * np.eye(means.shape[1])
    rows = np.minimum(np.arange(num_components), num_fitted - 1)
    weights = np.where(np.arange(num_components) < num_fitted, model.weights_[rows], 0.0)
    return _Gaussians(weights=weights, means=model.means_[rows], covariances=covariances[rows])


@torch.no_grad()
def fit_prior(
    encoder: nn.Module, generators: list[nn.Module], dataset: Dataset, image_range: tuple[float, float]
) -> None:
    """Fit the prior of these generators, which share one, to the posteriors of the training images.

    Args:
        encoder: in eval mode.
    """
    priors = [prior for one in generators if isinstance(prior := getattr(one, "prior", None), LearnedPrior)]
    if not priors:
        return
    low, high = image_range
    device = next(encoder.parameters()).device
    rows = torch.linspace(0, len(dataset) - 1, min(len(dataset), MAX_IMAGES)).long()
    found = []
    for part in torch.split(rows, 250):
        images = (dataset.images[part] / 255.0 * (high - low) + low).to(device)
        found.append([values.flatten(1).double().cpu() for values in encoder(images)])
    means, log_variances = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    if not (np.isfinite(means).all() and np.isfinite(log_variances).all()):  # diverged, which the run's weights say
        return
    mixture = fit_mixture(
        means,
        np.exp(log_variances),
        len(priors[0].table),
        labels=None if dataset.labels is None else dataset.labels[rows].numpy(),
        num_labels=len(priors[0].label_thresholds),
        seed=0,
    )
    for prior in priors:
        prior.set(mixture)
