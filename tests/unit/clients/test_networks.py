"""The networks of the size series."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from clients.networks import SERIES, SERIES_FOLDER, export_version, network_of
from ganvas_core.cli import UsageError
from training.families import FAMILIES

SIZES = {"mlp": 28, "dcgan32": 32, "dcgan64": 64, "residual128": 128, "residual256": 256, "vae256": 256}


@pytest.mark.parametrize("name", SERIES)
def test_network_of_the_series_can_be_built(name: str) -> None:
    network = network_of(SERIES_FOLDER / f"{name}.toml")
    told = tomllib.loads(network.toml)
    built = FAMILIES[told["family"]].network_type(**told["network"])
    assert built.num_classes == network.num_labels == 0
    assert built.image_shape[0] == SIZES[name]


def test_every_file_is_in_the_series() -> None:
    assert {path.stem for path in SERIES_FOLDER.glob("*.toml")} == set(SERIES)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    for content, why in (
        (b"family = 'dcgan'", r"\[network\] is missing"),
        (b"[network]", r"network\.num_classes is missing"),
        (b"[network]\nnum_classes = 'ten'", "invalid literal for int"),
        (b"family", "Expected '=' after a key"),
        (b"\xff\xfe", "this is not text"),
    ):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=rf"^--network .*a\.toml: {why}.* It takes a TOML file with a family"):
            network_of(file)


def test_a_key_that_its_family_does_not_know_is_said_of_the_users_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("family = 'dcgan'\n[network]\nnum_classes = 1\nlatent_dims = 3\n")
    with pytest.raises(UsageError, match=r"^--network .*/a\.toml: network latent_dims is unknown\. It takes"):
        export_version(network_of(file), tmp_path / "repository")
