"""The few figures that training measures on held-out images at each save: the best checkpoint is chosen by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import Dataset, Split
from training.evaluation.classes import class_judge
from training.evaluation.distances import frechet_distance, kernel_estimate
from training.evaluation.features import default_features, load_features
from training.evaluation.neighbors import manifold
from training.evaluation.variational import psnr
from training.run.samples import draw_samples

__all__ = ["quick"]


NUM_IMAGES = 500
"""Samples, training images and held-out images looked at, at most."""


def quick(
    split: Split,
    generator: nn.Module,
    encoder: nn.Module | None,
    *,
    latent_shape: tuple[int, ...],
    num_classes: int,
    image_range: tuple[float, float],
    features: str | None = None,
    trained_with: Sequence[str] = (),
) -> dict[str, float]:
    """Measure on at most 500 images: about a second on one core for small grey ones.

    Args:
        features: a key of FEATURES; by default what `evaluate` takes.
        trained_with: names of features that the model is trained with. They do not judge it: only psnr_db is left.
    Returns:
        kernel_distance with its standard error, frechet_ratio (to the distance of training images), precision, recall,
        density, coverage by the features named, class_agreement where they know the classes, psnr_db where there is an
        encoder.
    """
    held_out = split.held_out
    name = features or default_features(split.train)
    looked_at = load_features(name, num_channels=held_out.images.shape[1])
    figures = {}
    if not looked_at.is_one_of(trained_with):
        rows = torch.from_numpy(np.random.default_rng(0).permutation(len(split.train))[:NUM_IMAGES])
        train = split.train.subset(rows)
        labels = _labels(train, num_classes)
        samples = draw_samples(generator, torch.arange(NUM_IMAGES), labels, latent_shape=latent_shape)
        given = looked_at(_to_uint8(samples, image_range))
        real, floor_of = looked_at(held_out.images[:NUM_IMAGES]), looked_at(train.images)
        kernel = kernel_estimate(given, real)
        figures = {
            "kernel_distance": kernel.value,
            "kernel_distance_error": kernel.error,
            "frechet_ratio": frechet_distance(given, real) / max(frechet_distance(floor_of, real), 1e-12),
            **dataclasses.asdict(manifold(real, given)),
        }
        judge = class_judge(looked_at, real, split.train) if labels is not None and looked_at.classify else None
        if labels is not None and judge is not None:
            figures["class_agreement"] = float((judge.classify(given) == labels.numpy()).mean())
    if encoder is not None:
        figures["psnr_db"] = _reconstruction_psnr(
            generator, encoder, split, image_range, held_out.labels if num_classes else None
        )
    return {name: float(f"{value:.4g}") for name, value in figures.items()}  # a kernel distance may be 0.003


def _labels(train: Dataset, num_classes: int) -> Tensor | None:
    """In the shares of these training images; None for an unconditional model."""
    if not num_classes:
        return None
    if train.labels is None:
        return torch.arange(NUM_IMAGES) % num_classes
    return train.labels[torch.arange(NUM_IMAGES) % len(train)]


@torch.no_grad()
def _reconstruction_psnr(
    generator: nn.Module, encoder: nn.Module, split: Split, image_range: tuple[float, float], labels: Tensor | None
) -> float:
    device = next(encoder.parameters()).device
    low, high = image_range
    images = split.held_out.images[:NUM_IMAGES]
    decoded = []
    for start in range(0, len(images), 100):
        rows = slice(start, start + 100)
        mean, _ = encoder((images[rows] / 255.0 * (high - low) + low).to(device))
        given = None if labels is None else labels[:NUM_IMAGES][rows].to(device)
        decoded.append(generator(mean, given).cpu())
    return psnr(_to_uint8(torch.cat(decoded), image_range), images)


def _to_uint8(images: Tensor, image_range: tuple[float, float]) -> Tensor:
    low, high = image_range
    return ((images.float().clamp(low, high) - low) / (high - low) * 255).round().to(torch.uint8)
