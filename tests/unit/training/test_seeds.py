from __future__ import annotations

from typing import get_args

import torch

from tests.support.training import TINY
from training.families import FAMILIES
from training.seeds import Purpose, sub_seed


def test_sub_seeds_differ_by_seed_purpose_and_rank() -> None:
    seeds = [
        sub_seed(seed, purpose, rank) for seed in (0, 1, 2**63 - 1) for purpose in get_args(Purpose) for rank in (0, 1)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sub_seed(7, "weights") == sub_seed(7, "weights", rank=0)


def test_first_latents_are_no_weights_of_the_label_embedding() -> None:
    torch.manual_seed(sub_seed(0, "weights"))
    weights = FAMILIES["dcgan"].build(TINY)[0].get_parameter("stem.embedding.weight").flatten()
    latents = torch.randn(64, generator=torch.Generator().manual_seed(sub_seed(0, "noise")))
    assert not torch.isin(weights, latents).any()
