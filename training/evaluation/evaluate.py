"""Measures a model against the data it was trained on and the data held out from it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganvas_core.cli import UsageError
from training.data.dataset import Dataset, Split
from training.evaluation.classes import class_judge, measure_classes, train_on_synthetic
from training.evaluation.distances import Floats, frechet_distance, kernel_distance
from training.evaluation.features import Features
from training.evaluation.findings import findings_of
from training.evaluation.models import GenerativeModel
from training.evaluation.neighbors import (
    Nearest,
    authenticity,
    manifold,
    memorization,
    nearest,
    pixel_features,
    repetition,
)
from training.evaluation.result import DataFacts, Evaluation, Quality, TruncationPoint
from training.evaluation.sharpness import relative_detail
from training.evaluation.variational import reconstruction

__all__ = ["MIN_HELD_OUT", "Drawn", "Reference", "draw", "evaluate", "reference"]

MAX_SAMPLES = 5000
MAX_HELD_OUT = 5000
MIN_HELD_OUT = 20
NUM_TRUNCATION_SAMPLES = 500
TRUNCATIONS = (0.4, 0.6, 0.8, 1.0, 1.2)
UNTRAINED_SAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples of seeds 0, 1, 2, …"""

    images: Tensor
    """[N, C, H, W] uint8"""
    labels: NDArray[np.int64] | None
    features: Floats
    pixels: Floats
    nearest: Nearest
    """The nearest training image of each, by pixels: rows of split.train."""
    held_out_nearest: Nearest
    """The same of held-out images."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Real images, and what is known of them by the features: the same for every model judged."""

    split: Split
    features: Features
    held_out: Dataset
    """At most MAX_HELD_OUT of them."""
    train: Floats
    """Features of as many training images as there are samples."""
    train_rows: NDArray[np.int64]
    held_out_features: Floats
    train_pixels: Floats
    """Of every training image."""
    held_out_pixels: Floats
    floor: float
    """Fréchet distance of training images to held-out ones."""


def reference(split: Split, features: Features, *, num_images: int | None = None) -> Reference:
    """Measure real against real.

    Args:
        num_images: training images to compare with, and samples to draw: all of them by default, at most MAX_SAMPLES.
    Raises:
        UsageError: there are too few held-out images to measure anything by.
    """
    if len(split.held_out) < MIN_HELD_OUT:
        raise UsageError(
            f"--data: {len(split.held_out)} images are held out; an evaluation needs at least {MIN_HELD_OUT}."
        )
    rng = np.random.default_rng(0)
    train_rows = np.sort(rng.permutation(len(split.train))[: min(num_images or MAX_SAMPLES, MAX_SAMPLES)])
    held_out = split.held_out
    if len(held_out) > MAX_HELD_OUT:
        held_out = held_out.subset(torch.from_numpy(np.sort(rng.permutation(len(held_out))[:MAX_HELD_OUT])))
    train = features(split.train.images[torch.from_numpy(train_rows)])
    held_out_features = features(held_out.images)
    return Reference(
        split=split,
        features=features,
        held_out=held_out,
        train=train,
        train_rows=train_rows,
        held_out_features=held_out_features,
        train_pixels=pixel_features(split.train.images),
        held_out_pixels=pixel_features(held_out.images),
        floor=frechet_distance(train, held_out_features),
    )


def sample_labels(model: GenerativeModel, train: Dataset, num_samples: int) -> NDArray[np.int64] | None:
    """Labels in the shares of the training images; None for an unconditional model."""
    num_classes = len(model.facts.labels)
    if not num_classes:
        return None
    if train.labels is None or len(train.label_names) != num_classes:
        return np.arange(num_samples, dtype=np.int64) % num_classes
    rows = np.random.default_rng(0).permutation(len(train))
    return np.asarray(train.labels.numpy()[rows[np.arange(num_samples) % len(train)]], np.int64)


def draw(model: GenerativeModel, real: Reference, num_samples: int) -> Drawn:
    """The samples of seeds 0, 1, 2, …, with their features and nearest training images."""
    labels = sample_labels(model, real.split.train, num_samples)
    images = model.sample(range(num_samples), labels)
    pixels = pixel_features(images)
    return Drawn(
        images=images,
        labels=labels,
        features=real.features(images),
        pixels=pixels,
        nearest=nearest(pixels, real.train_pixels),
        held_out_nearest=nearest(real.held_out_pixels, real.train_pixels),
    )


def evaluate(
    model: GenerativeModel,
    split: Split,
    features: Features,
    *,
    num_samples: int | None = None,
    untrained: GenerativeModel | None = None,
    curves: Sequence[Mapping[str, Any]] = (),
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[Evaluation, Drawn]:
    """Every metric that fits the model.

    Args:
        num_samples: as many as training images by default, at most MAX_SAMPLES, so that the distances of samples and of
            training images to the held-out ones are biased alike.
        untrained: the same network before training.
        curves: lines of the run's curves.jsonl.
        on_stage: told what is being done.
    Raises:
        UsageError: the model was trained with these features, or too few images are held out.
    """
    if features.is_one_of(model.facts.judged_by_none_of):
        raise UsageError(
            f"--features: the model was trained with features of {features.name}, which must not judge it. "
            "Choose others."
        )
    start_s = time.monotonic()
    on_stage("features of real images")
    real = reference(split, features, num_images=num_samples)
    num_samples = min(num_samples or len(real.train), MAX_SAMPLES)
    on_stage(f"{num_samples} samples")
    drawn = draw(model, real, num_samples)
    on_stage("distances, neighbours, classes, truncation and reconstruction")
    repeated = repetition(drawn.pixels, real.train_pixels[real.train_rows])
    encoding = model.encodes
    found = Evaluation(
        model=model.facts,
        data=_data_facts(split),
        features=features.name,
        num_samples=num_samples,
        samples=quality(drawn.features, real),
        real=quality(real.train, real, of_train=True),
        untrained=None if untrained is None else _untrained_quality(untrained, real, num_samples),
        relative_detail=relative_detail(drawn.images, real.held_out.images),
        memorization=memorization(drawn.nearest.distance, drawn.held_out_nearest.distance),
        repeated_share=repeated.share,
        num_distinct=repeated.num_distinct,
        **_class_figures(drawn, real),
        reconstruction=None if encoding is None else reconstruction(encoding, real.held_out),
        truncation=truncation_curve(model, real),
        discriminator_accuracy=discriminator_accuracy(curves),
        findings=[],
        seconds=0.0,
        torch=torch.__version__,
    )
    return dataclasses.replace(found, findings=findings_of(found, curves), seconds=time.monotonic() - start_s), drawn


def _data_facts(split: Split) -> DataFacts:
    return DataFacts(
        name=split.train.name,
        license=split.train.license,
        source=split.train.source,
        num_train=len(split.train),
        num_held_out=len(split.held_out),
    )


def _untrained_quality(untrained: GenerativeModel, real: Reference, num_samples: int) -> Quality:
    num_samples = min(num_samples, UNTRAINED_SAMPLES)
    labels = sample_labels(untrained, real.split.train, num_samples)
    return quality(real.features(untrained.sample(range(num_samples), labels)), real)


def _class_figures(drawn: Drawn, real: Reference) -> dict[str, Any]:
    """The fields of an Evaluation that need classes in the data, and labels of the samples; None without."""
    train, held_out, rows = real.split.train, real.held_out, real.train_rows
    classes, synthetic, on_real = None, None, None
    judge = class_judge(real.features, real.train, train.subset(torch.from_numpy(rows)))
    if judge is not None and held_out.labels is not None:
        classes = measure_classes(
            judge,
            train=train,
            held_out=held_out,
            held_out_features=real.held_out_features,
            sample_features=drawn.features,
            sample_labels=drawn.labels,
        )
        if drawn.labels is not None:
            assert train.labels is not None
            unseen = real.held_out_pixels, held_out.labels.numpy()
            synthetic = train_on_synthetic(drawn.pixels, drawn.labels, *unseen)
            on_real = train_on_synthetic(real.train_pixels[rows], train.labels.numpy()[rows], *unseen)
    return {"classes": classes, "synthetic_accuracy": synthetic, "real_accuracy": on_real}


def quality(given: Floats, real: Reference, *, of_train: bool = False) -> Quality:
    """Features [N, D] against those of real images. of_train: they are those of the training images."""
    frechet = real.floor if of_train else frechet_distance(given, real.held_out_features)
    return Quality(
        frechet=frechet,
        ratio=frechet / max(real.floor, 1e-12),
        kernel=kernel_distance(given, real.held_out_features),
        frechet_to_train=None if of_train else frechet_distance(given, real.train),
        kernel_to_train=None if of_train else kernel_distance(given, real.train),
        manifold=manifold(real.held_out_features, given),
        authenticity=None if of_train else authenticity(given, real.train),
    )


def truncation_curve(model: GenerativeModel, real: Reference) -> list[TruncationPoint]:
    """Quality and diversity of the same seeds as truncation grows."""
    points = []
    floor = frechet_distance(real.train[:NUM_TRUNCATION_SAMPLES], real.held_out_features)
    for truncation in TRUNCATIONS:
        labels = sample_labels(model, real.split.train, NUM_TRUNCATION_SAMPLES)
        given = real.features(model.sample(range(NUM_TRUNCATION_SAMPLES), labels, truncation=truncation))
        points.append(
            TruncationPoint(
                truncation=truncation,
                ratio=frechet_distance(given, real.held_out_features) / max(floor, 1e-12),
                manifold=manifold(real.held_out_features, given),
            )
        )
    return points


def discriminator_accuracy(curves: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean over the last tenth of training."""
    values = [line["losses"]["D_accuracy"] for line in curves if "D_accuracy" in line.get("losses", {})]
    return float(np.mean(values[-max(1, len(values) // 10) :])) if values else None
