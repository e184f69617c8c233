from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.networks import TINY
from clients.soak.truth import Truth, slerp
from ganvas_core.requests.walk import walk_latents


@pytest.fixture(scope="module")
def truth(model_repository: Path) -> Truth:
    return Truth(model_repository, TINY[0])


def test_images_depend_on_seed_truncation_and_label(truth: Truth) -> None:
    plain, again = truth.images([1, 2, 1]), truth.images([1])
    assert plain[0] == plain[2] == again[0]
    assert plain[0] != plain[1]
    assert truth.images([1], truncation=0.7) != again
    assert truth.images([1], label=3) != again
    assert truth.images([1], label=1) == again, "without a label it is the seed modulo their number"


def test_walk_passes_through_the_images_of_its_seeds(truth: Truth) -> None:
    frames = truth.walk([5, 9, 2**64 - 1], 4, label=3)
    assert len(frames) == 9
    assert len(set(frames)) == 9
    assert [frames[0], frames[4], frames[8]] == truth.images([5, 9, 2**64 - 1], label=3)


def test_slerp_gives_the_latents_of_the_service() -> None:
    seeds = np.array([3, 2**63, 7], np.uint64)
    theirs = walk_latents(seeds, 7, 0, 14, (16,))
    leg, step = np.divmod(np.arange(14), 7)
    ends = walk_latents(seeds, 1, 0, 3, (16,))
    assert slerp(ends[leg], ends[leg + 1], step / 7).tobytes() == theirs.tobytes()
