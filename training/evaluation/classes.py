"""What classes the samples belong to, by a judge that knows the real images; and what a classifier learns from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Dataset
from training.evaluation.distances import Floats
from training.evaluation.features import Features

__all__ = ["ClassJudge", "Classes", "class_judge", "entropy", "measure_classes", "train_on_synthetic"]

Labels = NDArray[np.int64]

MAX_TRAINING_IMAGES = 5000


@dataclass(frozen=True, kw_only=True)
class ClassJudge:
    """A classifier of real images by their features."""

    name: str
    classify: Callable[[Floats], Labels]
    """Features [N, D] → [N]"""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Classes of the samples as the judge sees them."""

    judge: str
    judge_accuracy: float
    """Of the judge, on held-out images: what to compare agreement with."""
    names: tuple[str, ...]
    real: list[float]
    """Share of each class among the training images, by their labels."""
    samples: list[float]
    """Share of each class among the samples, by the judge."""
    entropy: float
    """Of the samples' shares, over that of the training images' shares: 1 where they are as even."""
    agreement: float | None
    """Share of samples that the judge takes for the label asked for; None for an unconditional model."""
    agreement_by_class: list[float] | None


def class_judge(features: Features, train_features: Floats, train: Dataset) -> ClassJudge | None:
    """The features' own classifier, or a logistic regression on them; None without two labels."""
    if train.labels is None or len(set(train.labels.tolist())) < 2:
        return None
    if features.classify is not None and len(train.label_names) == 10:
        return ClassJudge(name=features.name, classify=features.classify)
    from sklearn.linear_model import LogisticRegression  # slow to import: training starts without it
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    rows = slice(0, MAX_TRAINING_IMAGES)
    model.fit(train_features[rows], train.labels.numpy()[rows])
    return ClassJudge(
        name=f"logistic regression on {features.name}",
        classify=lambda given: np.asarray(model.predict(given), np.int64),
    )


def measure_classes(
    judge: ClassJudge,
    *,
    train: Dataset,
    held_out: Dataset,
    held_out_features: Floats,
    sample_features: Floats,
    sample_labels: Labels | None,
) -> Classes:
    """Compare the samples' classes with those of the data, and with the labels asked for."""
    assert train.labels is not None
    assert held_out.labels is not None
    num_classes = len(train.label_names)
    judged = judge.classify(sample_features)
    real = np.bincount(train.labels.numpy(), minlength=num_classes) / len(train)
    samples = np.bincount(judged, minlength=num_classes) / len(judged)
    agreement, by_class = None, None
    if sample_labels is not None:
        agrees = judged == sample_labels
        agreement = float(agrees.mean())
        by_class = [
            float(agrees[sample_labels == i].mean()) if (sample_labels == i).any() else 0.0 for i in range(num_classes)
        ]
    return Classes(
        judge=judge.name,
        judge_accuracy=float((judge.classify(held_out_features) == held_out.labels.numpy()).mean()),
        names=train.label_names,
        real=real.tolist(),
        samples=samples.tolist(),
        entropy=entropy(samples) / max(entropy(real), 1e-12),
        agreement=agreement,
        agreement_by_class=by_class,
    )


def train_on_synthetic(images: Floats, labels: Labels, held_out: Floats, held_out_labels: Labels) -> float | None:
    """Accuracy on held-out images of a support-vector classifier that saw these images alone; None of one class.

    Args:
        images, held_out: [*, pixels] in [0, 1], as neighbors.pixel_features gives.
    """
    from sklearn.svm import SVC

    rows = slice(0, MAX_TRAINING_IMAGES)
    if len(np.unique(labels[rows])) < 2:
        return None
    return float(SVC(C=10).fit(images[rows], labels[rows]).score(held_out, held_out_labels))


def entropy(shares: Floats) -> float:
    """In nats."""
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
