"""What an evaluation found: evaluation.json, typed. The report shows the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.evaluation.classes import Classes
from training.evaluation.distances import Spread
from training.evaluation.models import ModelFacts
from training.evaluation.neighbors import Manifold, Memorization
from training.evaluation.variational import Reconstruction

__all__ = ["DataFacts", "Evaluation", "Finding", "Quality", "TruncationPoint"]

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What a model is measured on."""

    name: str
    license: str
    source: str
    num_train: int
    num_held_out: int


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One set of images measured against the held-out ones, and by its distance to the training images."""

    frechet: float
    ratio: float
    """Of the Fréchet distance to its floor: that of the training images to the held-out ones."""
    kernel: Spread
    frechet_to_train: float | None
    """None: the set is of training images itself."""
    kernel_to_train: Spread | None
    manifold: Manifold
    authenticity: float | None
    """To be read beside coverage only."""


@dataclass(frozen=True, kw_only=True)
class TruncationPoint:
    truncation: float
    ratio: float
    manifold: Manifold


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something the reader should know, by the metric that saw it."""

    severity: Literal["problem", "note"]
    title: str
    """`memorised`, `collapsed: class 3 missing`"""
    evidence: str
    metric: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    format: int = FORMAT
    model: ModelFacts
    data: DataFacts
    features: str
    num_samples: int
    samples: Quality
    real: Quality
    """Training images in the samples' place: what a perfect generator would get."""
    untrained: Quality | None
    """The same network before training; None for a served model."""
    relative_detail: float
    """Fine detail of samples over that of held-out images: below 1 is blur, above 1 noise."""
    memorization: Memorization
    repeated_share: float
    """Of samples with a near copy among the samples."""
    num_distinct: int
    """Samples left when near copies are taken for one."""
    classes: Classes | None
    synthetic_accuracy: float | None
    """On held-out images, of a classifier trained on samples alone."""
    real_accuracy: float | None
    """The same, trained on training images."""
    reconstruction: Reconstruction | None
    truncation: list[TruncationPoint]
    discriminator_accuracy: float | None
    """Over the last tenth of training; None where it was not logged."""
    findings: list[Finding]
    seconds: float
    torch: str
