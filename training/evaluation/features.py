"""What images are compared by: the features of a frozen network, called by its name.

A new kind of features is a function here and an entry in FEATURES.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.data.dataset import Dataset
from training.efficientnet import NAME, MissingFeaturesError, load_efficientnet, rgb
from training.evaluation.digits.network import load_digit_classifier
from training.evaluation.distances import Floats

__all__ = ["FEATURES", "Features", "default_features", "load_features"]

BATCH_SIZE = 100


@dataclass(frozen=True, kw_only=True)
class Features:
    """A frozen network that describes images."""

    name: str
    """As a report calls it."""
    compute: Callable[[Tensor], Tensor]
    """[N, C, H, W] float32 in [0, 1] → [N, D] float32."""
    classify: Callable[[Floats], NDArray[np.int64]] | None = None
    """Features [N, D] → the class of each, where the network knows the classes of the data set."""

    def is_one_of(self, names: Sequence[str]) -> bool:
        """Whether a model that was trained with the features of these names must not be judged by these."""
        return self.name.lower() in {name.lower() for name in names}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Floats:
        """[N, C, H, W] uint8 → [N, D] float64."""
        parts = [
            self.compute(images[start : start + BATCH_SIZE].float() / 255.0)
            for start in range(0, len(images), BATCH_SIZE)
        ]
        return torch.cat(parts).double().numpy()


def _digits() -> Features:
    classifier = load_digit_classifier()
    return Features(
        name="digit classifier",
        compute=lambda images: classifier.features(images),
        classify=lambda features: classifier.logits(torch.from_numpy(features).float()).argmax(1).numpy(),
    )


def _efficientnet() -> Features:
    network = load_efficientnet()
    # ImageNet's objects are larger than such images: enlarging them keeps some space in the last maps.
    return Features(
        name=NAME,
        compute=lambda images: network.features(rgb(_resized(images, 64 if images.shape[-1] <= 64 else 128)) * 2 - 1),
    )


def _inception() -> Features:
    return _torch_fidelity("inception-v3-compat", "2048", "Inception-v3")


def _dinov2() -> Features:
    return _torch_fidelity("dinov2-vit-b-14", "dinov2", "DINOv2 ViT-B/14")


def _torch_fidelity(extractor: str, layer: str, name: str) -> Features:
    """Features by torch-fidelity, which fetches their weights once, or finds them in PyTorch's hub folder."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
            from torch_fidelity.utils import create_feature_extractor

        if extractor not in FEATURE_EXTRACTORS_REGISTRY:
            raise MissingFeaturesError(f"{name} needs a newer torch-fidelity, which knows {extractor}.")
        network = create_feature_extractor(extractor, [layer], cuda=False, verbose=False)
    except ImportError:
        raise MissingFeaturesError(f"{name} needs torch-fidelity: pip install torch-fidelity.") from None
    except OSError as error:
        raise MissingFeaturesError(
            f"the weights of {name} are not at hand and could not be fetched ({error}). Put them into "
            f"{torch.hub.get_dir()}/checkpoints, or choose --features efficientnet-lite0."
        ) from None

    def compute(images: Tensor) -> Tensor:
        features: Tensor = network((rgb(images) * 255).round().to(torch.uint8))[0]
        return features.float()

    return Features(name=name, compute=compute)


FEATURES: dict[str, Callable[[], Features]] = {
    "digits": _digits,
    "efficientnet-lite0": _efficientnet,
    "inception": _inception,
    "dinov2": _dinov2,
}
"""Name → loads them. Only Inception's Fréchet distance is what papers call FID."""


def default_features(dataset: Dataset, trained_with: Sequence[str] = ()) -> str:
    """The shipped classifier for handwritten digits; EfficientNet-Lite0 for all else.

    Args:
        trained_with: names of features that the model was trained with; Inception takes their place.
    """
    _, channels, height, width = dataset.images.shape
    is_digits = dataset.label_names == tuple("0123456789") and dataset.name in ("digits", "mnist")
    if is_digits and channels == 1 and max(height, width) <= 32:
        return "digits"
    return "inception" if NAME in trained_with else "efficientnet-lite0"


def load_features(name: str, *, num_channels: int) -> Features:
    """
    Raises:
        MissingFeaturesError: a package or weights are missing, or they do not fit the images.
    """
    if name == "digits" and num_channels != 1:
        raise MissingFeaturesError(f"--features digits needs grey images; these have {num_channels} channels.")
    return FEATURES[name]()


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[2:] == (size, size):
        return images
    return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
