from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ganvas_core.cli import UsageError
from tests.support.training import tiny_config
from training.cli import resume_config
from training.families.vae import VaeConfig
from training.presets import PRESETS, load_preset, parse_settings
from training.run.folder import RunFolderError, create
from training.stabilizers.ema import ema_decay


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_carries_its_own_name_and_a_reachable_budget(name: str) -> None:
    config = load_preset(name, {"data": "digits"} if name.startswith("folder") else {})
    assert config.preset == name
    assert config.kimg(config.num_steps) == pytest.approx(config.total_kimg, rel=1e-3)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_average_of_a_preset_reaches_its_full_length(name: str) -> None:
    config: Any = load_preset(name, {"data": "digits"} if name.startswith("folder") else {})
    halflife_kimg = getattr(config, "final_ema_halflife_kimg", None) or config.ema_halflife_kimg
    last, later = (
        ema_decay(batch_size=1, num_images=round(kimg * 1000), halflife_kimg=halflife_kimg)
        for kimg in (config.total_kimg, 1e6)
    )
    assert last == later


def test_set_changes_keys_of_the_preset_and_of_its_network() -> None:
    settings = parse_settings(
        ["seed=9", "beta = 2.5", "network.base_channels=8", "data=/home/me/my = images", 'device="cpu"']
    )
    config = load_preset("digits-vae", settings)
    assert isinstance(config, VaeConfig)
    assert (config.seed, config.beta, config.data, config.device) == (9, 2.5, "/home/me/my = images", "cpu")
    assert config.network.base_channels == 8
    assert config.batch_size == load_preset("digits-vae").batch_size


@pytest.mark.parametrize("text", ["batch_size", "=3", " =3"])
def test_set_takes_a_key_and_a_value(text: str) -> None:
    with pytest.raises(UsageError, match=r"--set takes key=value, such as network\.base_channels=32; got"):
        parse_settings([text])


def test_load_preset_lists_the_presets_when_unknown() -> None:
    with pytest.raises(
        UsageError, match=r"no preset 'digits-gna'; did you mean digits-gan\? There are: .*digits-gan, .*digits-vae"
    ):
        load_preset("digits-gna")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=-1", "seed must be greater than or equal to 0; got -1."),
        ("seed=9223372036854775808", "seed must be less than 9223372036854775808; got 9223372036854775808."),
        ("total_kimg=0", "total_kimg must be greater than 0; got 0."),
        ("batch_size=1", "batch_size must be greater than or equal to 2; got 1."),
        ("batch_size=many", "batch_size must be a valid integer; got 'many'."),
        ("learning_rate=inf", "learning_rate must be a finite number; got inf."),
        (
            "loss=logistic",
            "loss must be 'relativistic', 'non-saturating', 'minimax', 'least-squares', 'hinge' or 'wasserstein'; "
            "got 'logistic'.",
        ),
        ("precision=fp8", "precision must be 'fp32', 'bf16' or 'fp16'; got 'fp8'."),
        ("threads=0", "threads must be greater than or equal to 1; got 0."),
        (
            "network.image_size=33",
            "network image_size must be 4, 5, 6 or 7 times a power of two, from 8 up, as 28, 32, 48 or 64; got 33.",
        ),
        ("device=gpu", "device must match pattern '^(auto|cpu|mps|cuda(:[0-9]+)?)$'; got 'gpu'."),
        (
            "frozen_discriminator_layers=1",
            "frozen_discriminator_layers needs start_from: random layers are of no use frozen.",
        ),
    ],
)
def test_set_names_the_key_the_value_and_the_limit(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_preset("digits-gan", parse_settings([setting]))
    assert str(caught.value).endswith(f": {message}")


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("sharpness", "."),
        ("base_channels", "; did you mean network.base_channels?"),
        ("network.image_sise", "; did you mean network.image_size?"),
        ("learning_rat", "; did you mean learning_rate?"),
        ("network", "."),
    ],
)
def test_set_names_unknown_keys_with_near_ones(key: str, near: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"--set: dcgan has no key {key!r}{near} ")):
        load_preset("digits-gan", {key: 1})


def test_resume_config_takes_the_options_of_the_run(tmp_path: Path) -> None:
    config = tiny_config("dcgan", seed=4)
    create(tmp_path / "run", config, overwrite=False)
    assert resume_config("digits-gan", tmp_path / "run", {}) == config
    assert resume_config("digits-gan", tmp_path / "run", {"seed": 4}) == config


@pytest.mark.parametrize(
    ("preset", "given", "option"),
    [
        ("digits-gan", {"seed": 5}, "seed is 5 here, but the run in .* was started with 4"),
        ("digits-gan", {"network.base_channels": 5}, "network.base_channels is 5 here, but the run in .* with 4"),
        ("digits-gan", {"beta": 5}, "the run in .* has no key 'beta'"),
        ("digits-gan", {"total_kimg": 9.0}, r"--kimg is 9.0 here, but .* 0\.2"),
        ("digits-vae", {}, "PRESET is digits-vae here, but .* digits-gan"),
    ],
)
def test_resume_config_names_the_option_that_differs(
    tmp_path: Path, preset: str, given: dict[str, Any], option: str
) -> None:
    create(tmp_path / "run", tiny_config("dcgan", seed=4), overwrite=False)
    with pytest.raises(UsageError, match=option):
        resume_config(preset, tmp_path / "run", given)


def test_resume_config_says_so_when_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds no run\. Leave out --resume"):
        resume_config("digits-gan", tmp_path / "run", {})


def test_preset_may_be_a_file_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PRESETS["digits-vae"].read_text().replace("beta = 0.45", "beta = 3.5"))
    config = load_preset(str(path))
    assert isinstance(config, VaeConfig)
    assert (config.preset, config.beta) == ("mine", 3.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("beta = 0.45", "beta = -1"), "beta must be greater than 0; got -1"),
        (("beta = 0.45", "beta = 0.45\ncolour = 1"), "colour is unknown"),
        (('family = "vae"', 'family = "diffusion"'), "family must be one of dcgan, .*; got 'diffusion'"),
        (
            ("image_size = 32", "image_size = 33"),
            "network image_size must be 4, 5, 6 or 7 times a power of two, .*; got 33",
        ),
        (("batch_size = 64", "batch_size = "), "is not TOML"),
        (("batch_size = 64", "batch_size = 1979-05-27"), "batch_size must be a valid integer"),
    ],
)
def test_preset_file_names_the_field_that_is_wrong(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PRESETS["digits-vae"].read_text().replace(*change))
    with pytest.raises(UsageError, match=message) as caught:
        load_preset(str(path))
    assert str(path) in str(caught.value)


def test_preset_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*mine\.toml: No such file"):
        load_preset(str(tmp_path / "mine.toml"))
