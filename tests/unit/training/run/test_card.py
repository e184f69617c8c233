from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.support.training import TINY_UNCONDITIONAL, tiny_info
from training.families import FAMILIES
from training.run.card import card
from training.run.checkpoint import save_model
from training.run.info import DatasetInfo


def test_card_says_what_a_stranger_should_know() -> None:
    dataset = DatasetInfo(
        name="cats", size=12_345, sha256="a" * 64, license="CC-BY-4.0", source="https://example.org/cats"
    )
    text = card(tiny_info("dcgan", dataset=dataset, device="NVIDIA H100", num_rollbacks=1, started_from="b" * 64))
    for part in (
        "Every image of this model is machine-made",
        "## Intended use",
        "| classes | 10: 0, 1, 2,",
        "| images | 12,345 |",
        "| licence | CC-BY-4.0 |",
        "| source | https://example.org/cats |",
        "from the weights bbbbbbbbbbbbbbbb…",
        "| device | NVIDIA H100 |",
        "| taken back after divergence | 1 times |",
        "| label_accuracy | 0.5 |",
    ):
        assert part in text


def test_card_says_what_is_not_known() -> None:
    text = card(dataclasses.replace(tiny_info("vae", network=TINY_UNCONDITIONAL, labels=()), metrics={}))
    assert "not given: ask the owner of the images before you publish the model" in text
    assert "| classes | none: it is unconditional |" in text
    assert "Not measured." in text


def test_names_of_classes_cannot_break_the_table() -> None:
    info = tiny_info("dcgan", labels=("a|b", "c\nd", *"23456789"))
    (row,) = [line for line in card(info).splitlines() if line.startswith("| classes")]
    assert row.startswith("| classes | 10: a/b, c d, 2,")


def test_every_checkpoint_has_its_card(tmp_path: Path) -> None:
    info = tiny_info("dcgan")
    save_model(tmp_path / "c", info, FAMILIES["dcgan"].build(info.network)[0])
    assert (tmp_path / "c" / "card.md").read_text() == card(info)
