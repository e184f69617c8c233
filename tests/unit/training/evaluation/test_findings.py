"""Each generator that is bad on purpose is called out by the metric that sees it; a good one is not."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import pytest

from tests.unit.training.evaluation import generators
from training.data.digits import split_digits
from training.evaluation.evaluate import evaluate
from training.evaluation.features import load_features
from training.evaluation.findings import findings_of
from training.evaluation.result import Evaluation

SPLIT = split_digits(32)


@lru_cache
def evaluation_of(name: str) -> Evaluation:
    model = {
        "memorising": lambda: generators.memorising(SPLIT),
        "class dropped": lambda: generators.without_class(SPLIT, 3),
        "100 images": lambda: generators.few_images(SPLIT, 100),
        "blurred": lambda: generators.blurred(SPLIT),
        "class Gaussians": lambda: generators.class_gaussians(SPLIT),
        "noise": lambda: generators.noise(SPLIT),
        "shuffled labels": lambda: generators.shuffled_labels(SPLIT),
        "good": lambda: generators.good(SPLIT),
    }[name]()
    found, _ = evaluate(model, SPLIT, load_features("digits", num_channels=1), num_samples=500)
    return found


def problems(name: str) -> dict[str, str]:
    """Title → metric."""
    return {f.title: f.metric for f in evaluation_of(name).findings if f.severity == "problem"}


def test_good_generator_has_no_problem() -> None:
    assert problems("good") == {}


def test_memorising_generator_is_called_memorised_though_its_frechet_distance_is_best() -> None:
    assert problems("memorising")["memorised"] == "nearest training neighbours"
    found, good = evaluation_of("memorising"), evaluation_of("good")
    assert found.samples.frechet < good.samples.frechet
    assert found.memorization.strict_share > 0.99


def test_dropped_class_is_named() -> None:
    assert problems("class dropped")["collapsed: class 3 missing"] == "class histogram"


def test_hundred_images_are_counted() -> None:
    assert evaluation_of("100 images").num_distinct == pytest.approx(100, abs=5)
    assert "repeated samples" in problems("100 images").values()


def test_blurred_generator_is_called_blurred() -> None:
    assert problems("blurred")["blurred"] == "fine detail"


def test_class_gaussians_are_implausible_though_a_classifier_learns_from_them() -> None:
    found = evaluation_of("class Gaussians")
    assert found.synthetic_accuracy is not None
    assert found.synthetic_accuracy > 0.9
    assert problems("class Gaussians")["implausible samples"] == "precision and density"


def test_noise_is_noisy_implausible_and_far() -> None:
    assert {"noisy", "implausible samples", "far from the data", "labels are not obeyed"} <= set(problems("noise"))


def test_ignored_labels_are_seen_by_class_agreement() -> None:
    assert problems("shuffled labels") == {"labels are not obeyed": "class agreement"}


def test_problems_come_before_notes() -> None:
    found = evaluation_of("noise")
    few = dataclasses.replace(found, data=dataclasses.replace(found.data, num_held_out=50))
    severities = [finding.severity for finding in findings_of(few)]
    assert severities == sorted(severities, key=("problem", "note").index)
    assert severities[-1] == "note"


def test_rollback_and_an_all_knowing_discriminator_are_noted() -> None:
    found = dataclasses.replace(evaluation_of("good"), discriminator_accuracy=0.99)
    curves = [{"step": 5, "kimg": 0.5, "event": "rollback", "reason": "the D loss is nan"}]
    titles = {finding.title for finding in findings_of(found, curves)}
    assert titles == {"training diverged and was taken back", "the discriminator knows all"}
