"""The noise in other languages, against the vectors of docs/rng.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ganvas_core.noise import latents
from tests.support.languages import NODE, go_command, missing_for_go, missing_for_node, run, vectors

COUNT = 512


def check_vectors(command: Sequence[str], folder: Path) -> None:
    known = vectors()
    assert len(known) == 6
    for seed, numbers in known.items():
        made = run([*command, str(seed), str(COUNT)], folder).split()
        assert made == [f"0x{word:08x}" for word in latents([seed], COUNT).view("<u4")[0]]
        assert {dimension: made[dimension] for dimension in numbers} == numbers


@pytest.mark.skipif(missing_for_node(packages=False) is not None, reason=missing_for_node(packages=False) or "")
def test_node_makes_the_latents_of_the_vectors() -> None:
    check_vectors(["node", "latents.mjs"], NODE)


@pytest.mark.skipif(missing_for_go(packages=False) is not None, reason=missing_for_go(packages=False) or "")
def test_go_makes_the_latents_of_the_vectors(tmp_path: Path) -> None:
    check_vectors(go_command("latents", tmp_path, generate=False), tmp_path)
