"""How good the samples are, by plain measures on the images that the served model will give for seeds 0, 1, 2, …

    label_accuracy       share of samples that a classifier of real digits takes for their label
    real_label_accuracy  the same classifier on real digits that it has not seen: what to compare with
    density, coverage    are samples near real images, and do they reach all of them (arXiv:2002.09797)
    reconstruction_mse   a VAE's mean squared error on the training images, in [0, 1] pixels

They rank runs on one small dataset. They are no FID, and no replacement for looking at the grid.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.svm import SVC
from torch import Tensor, nn

from training.data import Dataset
from training.grids import draw_samples

__all__ = ["density_and_coverage", "label_accuracy", "measure", "reconstruction_mse"]

Floats = NDArray[np.float64]

NUM_SAMPLES = 1000
NUM_COMPONENTS = 40
"""Principal components of real images in which neighbours are sought: 94 % of the digits' variance."""
NUM_NEIGHBOURS = 5


def measure(
    dataset: Dataset,
    generator: nn.Module,
    encoder: nn.Module | None,
    *,
    latent_dim: int,
    image_range: tuple[float, float],
) -> dict[str, float]:
    """All measures that fit the model, rounded to four digits."""
    labels = torch.arange(NUM_SAMPLES) % len(dataset.label_names)
    samples = draw_samples(generator, torch.arange(NUM_SAMPLES), labels, latent_dim=latent_dim)
    real, fake = _flat(dataset.images / 255.0), _flat(_to_unit(samples, image_range))
    metrics = label_accuracy(real, dataset.labels.numpy(), fake, labels.numpy())
    metrics |= density_and_coverage(real, fake)
    if encoder is not None:
        metrics["reconstruction_mse"] = reconstruction_mse(dataset, generator, encoder, image_range)
    return {name: round(value, 4) for name, value in metrics.items()}


def label_accuracy(real: Floats, real_labels: Floats, fake: Floats, fake_labels: Floats) -> dict[str, float]:
    """Train a support-vector classifier on every other real image; score it on the rest and on the samples.

    Args:
        real: [N, pixels] in [0, 1].  fake: [M, pixels] in [0, 1].  Labels: [N] and [M] int64.
    """
    classifier = SVC(C=10).fit(real[::2], real_labels[::2])
    return {
        "label_accuracy": float(classifier.score(fake, fake_labels)),
        "real_label_accuracy": float(classifier.score(real[1::2], real_labels[1::2])),
    }


def density_and_coverage(real: Floats, fake: Floats) -> dict[str, float]:
    """Density (about 1 for real images, less for implausible ones) and coverage (share of real ones reached).

    Args:
        real: [N, pixels].  fake: [M, pixels].
    Source: Naeem et al., Reliable Fidelity and Diversity Metrics (arXiv:2002.09797), equations 5 and 6.
    """
    components = PCA(NUM_COMPONENTS, svd_solver="covariance_eigh").fit(real)
    real, fake = components.transform(real), components.transform(fake)
    radius = np.partition(pairwise_distances(real), NUM_NEIGHBOURS, axis=1)[:, NUM_NEIGHBOURS]
    inside = pairwise_distances(real, fake) < radius[:, None]
    return {
        "density": float(inside.sum(axis=0).mean() / NUM_NEIGHBOURS),
        "coverage": float(inside.any(axis=1).mean()),
    }


@torch.no_grad()
def reconstruction_mse(
    dataset: Dataset, decoder: nn.Module, encoder: nn.Module, image_range: tuple[float, float]
) -> float:
    """Mean squared error of decode(encode(x).mean, label) over the dataset, in [0, 1] pixels."""
    low, high = image_range
    total = 0.0
    for start in range(0, len(dataset), 100):
        unit = dataset.images[start : start + 100] / 255.0
        mean, _ = encoder(unit * (high - low) + low)
        decoded = decoder(mean, dataset.labels[start : start + 100])
        total += float((_to_unit(decoded, image_range) - unit).square().mean(dim=(1, 2, 3)).sum())
    return total / len(dataset)


def _to_unit(images: Tensor, image_range: tuple[float, float]) -> Tensor:
    low, high = image_range
    return (images - low) / (high - low)


def _flat(images: Tensor) -> Floats:
    return images.flatten(1).numpy().astype(np.float64)
