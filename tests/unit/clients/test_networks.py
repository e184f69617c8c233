"""The networks of the size series."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from clients.networks import SERIES, SERIES_FOLDER, network_of
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
    (tmp_path / "a.toml").write_text("family = 'dcgan'")
    with pytest.raises(UsageError, match=r"a.toml is no file of a network: KeyError\('network'\)"):
        network_of(tmp_path / "a.toml")
