"""Plans: the inputs for Triton and the metadata of each image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.noise import latents
from ganvas_core.requests.plans import DecodePlan, SamplePlan, WalkPlan, slices
from tests.support.certificates import served_model

MODEL = served_model()
SEEDS = np.array([7, 2**64 - 1, 3], np.uint64)


def test_sample_plan_takes_seeds_truncation_and_labels_of_its_slice() -> None:
    plan = SamplePlan(
        model=MODEL, format=pb.FORMAT_RAW, count=3, truncation=0.7, seeds=SEEDS, labels=np.array([0, 1, 2])
    )
    rows = plan.inputs(1, 3)
    assert plan.triton_model == "pets"
    assert rows["seed"].ravel().tolist() == [2**64 - 1, 3]
    assert rows["truncation"].ravel().tolist() == [np.float32(0.7)] * 2
    assert rows["label"].ravel().tolist() == [1, 2]
    assert (plan.seed_of(1), plan.label_of(2)) == (2**64 - 1, 2)
    assert plan.provenance(2) == {"seed": "3", "truncation": "0.7"}


def test_walk_plan_scales_the_latents_of_its_seeds_by_the_truncation() -> None:
    plan = WalkPlan(
        model=MODEL, format=pb.FORMAT_RAW, count=4, truncation=0.5, seeds=SEEDS[:2], steps=4, labels=np.zeros(4, int)
    )
    first = plan.inputs(0, 1)["latent"]
    assert plan.triton_model == "pets-decode"
    assert first.tobytes() == (latents([7], (5,)) * np.float32(0.5)).tobytes()
    assert plan.inputs(2, 4)["label"].ravel().tolist() == [0, 0]


def test_images_of_latents_come_from_no_seed() -> None:
    plan = DecodePlan(model=MODEL, format=pb.FORMAT_RAW, count=1, latents=np.ones((1, 5), np.float32), labels=None)
    assert (plan.seed_of(0), plan.label_of(0), plan.provenance(0)) == (0, None, {})
    assert set(plan.inputs(0, 1)) == {"latent"}


def test_plan_cannot_be_changed() -> None:
    plan = DecodePlan(model=MODEL, format=pb.FORMAT_RAW, count=1, latents=np.ones((1, 5), np.float32), labels=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.count = 2  # type: ignore[misc]


def test_slices_cover_every_image_once() -> None:
    assert list(slices(7, 3)) == [(0, 3), (3, 6), (6, 7)]
    assert list(slices(0, 3)) == []
