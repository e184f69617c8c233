from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganvas_core.cli import UsageError
from tests.support.training import TINY, tiny_network
from tests.unit.training.evaluation import generators
from training.data.digits import split_digits
from training.efficientnet import MissingFeaturesError, load_efficientnet
from training.evaluation.digits.network import load_digit_classifier
from training.evaluation.digits.train import train_classifier
from training.evaluation.distances import Estimate
from training.evaluation.evaluate import evaluate
from training.evaluation.features import default_features, load_features
from training.evaluation.quick import quick
from training.families import FAMILIES

SPLIT = split_digits(32)


def test_shipped_classifier_knows_the_digits_of_writers_it_never_saw() -> None:
    assert SPLIT.held_out.labels is not None
    right = load_digit_classifier()(SPLIT.held_out.images / 255.0).argmax(1) == SPLIT.held_out.labels
    assert float(right.float().mean()) == pytest.approx(0.992, abs=0.002)


def test_its_features_have_a_mean_square_of_one() -> None:
    features = load_features("digits", num_channels=1)(SPLIT.train.images[:300])
    assert features.shape == (300, 16)
    assert float(np.square(features).mean()) == pytest.approx(1.0, abs=0.1)


def test_training_script_learns_the_digits() -> None:
    assert SPLIT.train.labels is not None
    classifier = train_classifier(SPLIT.train.images[:400], SPLIT.train.labels[:400], num_epochs=4)
    right = classifier(SPLIT.train.images[:400] / 255.0).argmax(1) == SPLIT.train.labels[:400]
    assert float(right.float().mean()) > 0.6


def test_efficientnet_knows_a_photograph() -> None:
    """scikit-learn's photograph of the Summer Palace: class 698 of ImageNet is `palace`."""
    from sklearn.datasets import load_sample_image

    photo = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1)[None].float() / 127.5 - 1
    network = load_efficientnet()
    logits = network(torch.nn.functional.interpolate(photo[..., 0:427, 100:527], size=(224, 224), mode="bilinear"))
    assert int(logits.argmax()) == 698
    assert network.features(photo).shape == (1, 1280)


def test_efficientnet_takes_grey_rgb_and_rgba() -> None:
    features = load_features("efficientnet-lite0", num_channels=1)
    grey = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    rgba = torch.cat([grey.expand(-1, 3, -1, -1), torch.full_like(grey, 255)], dim=1)
    np.testing.assert_allclose(features(grey), features(rgba), atol=1e-6)


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingFeaturesError, match="pip install torch-fidelity"):
        load_features("inception", num_channels=3)


def stand_in_torch_fidelity(monkeypatch: pytest.MonkeyPatch, extractors: dict[str, Any]) -> None:
    """torch-fidelity's weights are 90 MB and more, and are downloaded. extractors: name → what makes one, or raises."""

    def create(name: str, features: list[str], *, cuda: bool, verbose: bool) -> Any:
        assert not cuda
        return extractors[name](features)

    registry, utils = types.ModuleType("torch_fidelity.registry"), types.ModuleType("torch_fidelity.utils")
    registry.FEATURE_EXTRACTORS_REGISTRY = extractors  # type: ignore[attr-defined]
    utils.create_feature_extractor = create  # type: ignore[attr-defined]
    for module in (types.ModuleType("torch_fidelity"), registry, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def mean_colors(images: Tensor) -> tuple[Tensor]:
    """An extractor, which torch-fidelity hands RGB images of 8 bits."""
    assert images.dtype == torch.uint8
    assert images.shape[1] == 3
    return (images.double().mean(dim=(2, 3)),)


@pytest.mark.parametrize(
    ("name", "extractor", "layer", "title"),
    [
        ("inception", "inception-v3-compat", "2048", "Inception-v3"),
        ("dinov2", "dinov2-vit-b-14", "dinov2", "DINOv2 ViT-B/14"),
    ],
)
def test_torch_fidelity_gets_rgb_bytes_and_its_first_output_is_the_features(
    name: str, extractor: str, layer: str, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def make(layers: list[str]) -> Any:
        asked.append(layers)
        return mean_colors

    stand_in_torch_fidelity(monkeypatch, {extractor: make})
    features = load_features(name, num_channels=1)
    grey = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 1, 8, 8) * 100
    np.testing.assert_array_equal(features(grey), np.array([[0.0] * 3, [100.0] * 3, [200.0] * 3]))
    assert (asked, features.name, features.classify) == ([[layer]], title, None)


def test_missing_weights_or_extractor_of_torch_fidelity_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(layers: list[str]) -> None:
        raise OSError("no route to host")

    stand_in_torch_fidelity(monkeypatch, {"inception-v3-compat": offline})
    with pytest.raises(
        MissingFeaturesError, match=r"weights of Inception-v3 .* could not be fetched \(no route to host"
    ):
        load_features("inception", num_channels=3)
    with pytest.raises(MissingFeaturesError, match="needs a newer torch-fidelity, which knows dinov2-vit-b-14"):
        load_features("dinov2", num_channels=3)


def test_digit_classifier_refuses_colours() -> None:
    with pytest.raises(MissingFeaturesError, match="needs grey images; these have 3 channels"):
        load_features("digits", num_channels=3)


def test_digits_are_judged_by_their_classifier_and_others_by_efficientnet() -> None:
    assert default_features(SPLIT.train) == "digits"
    assert default_features(dataclasses.replace(SPLIT.train, name="fashion")) == "efficientnet-lite0"


def test_model_is_not_judged_by_the_features_it_was_trained_with() -> None:
    model = generators.good(SPLIT)
    model.facts = dataclasses.replace(model.facts, judged_by_none_of=("digit classifier",))
    with pytest.raises(UsageError, match="must not judge it"):
        evaluate(model, SPLIT, load_features("digits", num_channels=1), num_samples=100)


def test_few_held_out_images_are_refused() -> None:
    few = dataclasses.replace(SPLIT, held_out=SPLIT.held_out.subset(torch.arange(19)))
    with pytest.raises(UsageError, match="19 images are held out"):
        evaluate(generators.good(SPLIT), few, load_features("digits", num_channels=1), num_samples=100)


@pytest.mark.parametrize("family", ["dcgan", "vae"])
def test_quick_measures_what_the_model_has(family: str) -> None:
    generator, encoder = FAMILIES[family].build(tiny_network(family))
    figures = quick(
        split_digits(8),
        generator.eval(),
        None if encoder is None else encoder.eval(),
        latent_shape=TINY.latent_shape,
        num_classes=10,
        image_range=FAMILIES[family].image_range,
    )
    common = {"kernel_distance", "kernel_distance_error", "frechet_ratio", "class_agreement"}
    common |= {"precision", "recall", "density", "coverage"}
    assert set(figures) == common | ({"psnr_db"} if family == "vae" else set())
    assert figures["frechet_ratio"] > 5
    assert figures["kernel_distance"] > 5 * figures["kernel_distance_error"] > 0


def test_quick_keeps_the_digits_of_small_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["training.evaluation.quick"]
    monkeypatch.setattr(module, "kernel_estimate", lambda *_: Estimate(value=0.00345678, error=0.000123456))
    generator, _ = FAMILIES["dcgan"].build(tiny_network("dcgan"))
    figures = quick(
        split_digits(8),
        generator.eval(),
        None,
        latent_shape=TINY.latent_shape,
        num_classes=10,
        image_range=FAMILIES["dcgan"].image_range,
    )
    assert (figures["kernel_distance"], figures["kernel_distance_error"]) == (0.003457, 0.0001235)


def test_quick_does_not_judge_by_features_that_the_model_is_trained_with() -> None:
    generator, encoder = FAMILIES["vae"].build(tiny_network("vae"))
    figures = quick(
        split_digits(8),
        generator.eval(),
        encoder.eval() if encoder is not None else None,
        latent_shape=TINY.latent_shape,
        num_classes=10,
        image_range=FAMILIES["vae"].image_range,
        trained_with=("digit classifier",),
    )
    assert set(figures) == {"psnr_db"}
