"""How good the samples are, measured on the images that the served model will give for seeds 0, 1, 2, …

    label_accuracy       share of samples that a classifier of real images takes for their label
    real_label_accuracy  the same classifier on real images that it has not seen: what to compare with
    density, coverage    are samples near real images, and do they reach all of them (arXiv:2002.09797)
    reconstruction_mse   mean squared error of decode(encode(x)), in [0, 1] pixels

The real images are those held out from training. They rank runs on one small data set. They do not replace FID, nor
looking at the grid. A new metric is a function here and an entry in METRICS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.svm import SVC
from torch import Tensor, nn

from training.data.dataset import Dataset, Split
from training.run.samples import draw_samples

__all__ = ["METRICS", "Evaluation", "density_and_coverage", "label_accuracy", "measure", "reconstruction_mse"]

Floats = NDArray[np.float64]

NUM_SAMPLES = 1000
MAX_REAL = 2000
"""Real images of each part that are looked at, evenly spread: the time of some metrics grows with their square."""
NUM_COMPONENTS = 40
"""Principal components of real images in which neighbors are searched for: 94 % of the digits' variance."""
NUM_NEIGHBORS = 5


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a metric may look at."""

    train: Dataset
    """What the generator was trained on."""
    dataset: Dataset
    """What was held out."""
    generator: nn.Module
    encoder: nn.Module | None
    latent_shape: tuple[int, ...]
    num_classes: int
    """Classes of the generator; 0: unconditional."""
    image_range: tuple[float, float]
    real: Floats
    """[N, pixels] in [0, 1]: the held-out images."""
    fake: Floats
    """[NUM_SAMPLES, pixels] in [0, 1]: the samples of seeds 0, 1, 2, …"""
    fake_labels: NDArray[np.int64] | None
    """[NUM_SAMPLES]; None for an unconditional model."""

    def labels(self, rows: slice) -> Tensor | None:
        """The real labels as the generator takes them."""
        return self.dataset.labels[rows] if self.num_classes and self.dataset.labels is not None else None


def label_accuracy(evaluation: Evaluation) -> dict[str, float]:
    """Train a support-vector classifier on the training images; score it on the held-out ones and on the samples."""
    train, held_out = evaluation.train, evaluation.dataset
    if evaluation.fake_labels is None or train.labels is None or held_out.labels is None:
        return {}
    if len(set(train.labels.tolist())) < 2:
        return {}
    classifier = SVC(C=10).fit(_flat(train.images / 255.0), train.labels.numpy())
    return {
        "label_accuracy": float(classifier.score(evaluation.fake, evaluation.fake_labels)),
        "real_label_accuracy": float(classifier.score(evaluation.real, held_out.labels.numpy())),
    }


def density_and_coverage(evaluation: Evaluation) -> dict[str, float]:
    """Density (about 1 for real images, less for implausible ones) and coverage (share of real ones reached).

    Source: Naeem et al., Reliable Fidelity and Diversity Metrics (arXiv:2002.09797), equations 5 and 6.
    """
    num_components = min(NUM_COMPONENTS, *evaluation.real.shape)
    components = PCA(num_components, svd_solver="covariance_eigh").fit(evaluation.real)
    real, fake = components.transform(evaluation.real), components.transform(evaluation.fake)
    radius = np.partition(pairwise_distances(real), NUM_NEIGHBORS, axis=1)[:, NUM_NEIGHBORS]
    inside = pairwise_distances(real, fake) < radius[:, None]
    return {
        "density": float(inside.sum(axis=0).mean() / NUM_NEIGHBORS),
        "coverage": float(inside.any(axis=1).mean()),
    }


@torch.no_grad()
def reconstruction_mse(evaluation: Evaluation) -> dict[str, float]:
    """Mean squared error of decode(encode(x).mean, label) over the data set, in [0, 1] pixels."""
    if evaluation.encoder is None:
        return {}
    low, high = evaluation.image_range
    dataset, total = evaluation.dataset, 0.0
    for start in range(0, len(dataset), 100):
        rows = slice(start, start + 100)
        unit = dataset.images[rows] / 255.0
        mean, _ = evaluation.encoder(unit * (high - low) + low)
        decoded = evaluation.generator(mean, evaluation.labels(rows))
        total += float(((decoded - low) / (high - low) - unit).square().mean(dim=(1, 2, 3)).sum())
    return {"reconstruction_mse": total / len(dataset)}


METRICS: tuple[Callable[[Evaluation], dict[str, float]], ...] = (
    label_accuracy,
    density_and_coverage,
    reconstruction_mse,
)
"""Each gives its figures by name, or none where the model has no labels or no encoder to measure."""


def measure(
    split: Split,
    generator: nn.Module,
    encoder: nn.Module | None,
    *,
    latent_shape: tuple[int, ...],
    num_classes: int,
    image_range: tuple[float, float],
) -> dict[str, float]:
    """Every metric that fits the model, rounded to four digits."""
    low, high = image_range
    held_out = _some(split.held_out)
    labels = torch.arange(NUM_SAMPLES) % num_classes if num_classes else None
    samples = draw_samples(generator, torch.arange(NUM_SAMPLES), labels, latent_shape=latent_shape)
    evaluation = Evaluation(
        train=_some(split.train),
        dataset=held_out,
        generator=generator,
        encoder=encoder,
        latent_shape=latent_shape,
        num_classes=num_classes,
        image_range=image_range,
        real=_flat(held_out.images / 255.0),
        fake=_flat((samples - low) / (high - low)),
        fake_labels=None if labels is None else labels.numpy(),
    )
    figures: dict[str, float] = {}
    for metric in METRICS:
        figures |= metric(evaluation)
    return {name: round(value, 4) for name, value in figures.items()}


def _some(dataset: Dataset) -> Dataset:
    if len(dataset) <= MAX_REAL:
        return dataset
    return dataset.subset(torch.linspace(0, len(dataset) - 1, MAX_REAL).long())


def _flat(images: Tensor) -> Floats:
    return images.flatten(1).numpy().astype(np.float64)
