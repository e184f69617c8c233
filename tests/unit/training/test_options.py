from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.training import tiny_config
from training.options import OptionError, new_config, resume_config
from training.presets import PRESETS, VaeConfig
from training.run_folder import RunFolderError, create, git_revision, read_config


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_carries_its_own_name_and_a_reachable_budget(name: str) -> None:
    config = PRESETS[name]
    assert config.preset == name
    assert config.kimg(config.num_steps) == pytest.approx(config.total_kimg, rel=1e-3)


def test_new_config_varies_the_preset() -> None:
    config = new_config("digits-vae", {"seed": 9, "beta": 2.5})
    assert isinstance(config, VaeConfig)
    assert (config.seed, config.beta) == (9, 2.5)
    assert config.batch_size == PRESETS["digits-vae"].batch_size


def test_new_config_lists_the_presets_when_unknown() -> None:
    with pytest.raises(OptionError, match=r"no preset 'digits-gna'. There are: digits-gan, digits-vae"):
        new_config("digits-gna", {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "--seed must be at least 0; got -1."),
        ({"seed": 2**63}, "--seed must be less than 9223372036854775808; got 9223372036854775808."),
        ({"total_kimg": 0.0}, "--kimg must be more than 0.0; got 0.0."),
        ({"batch_size": 1}, "--batch-size must be at least 2; got 1."),
        ({"batch_size": 5000}, "--batch-size must be at most 4096; got 5000."),
        ({"learning_rate": float("nan")}, "--learning-rate must be a finite number; got nan."),
        ({"loss": "wasserstein"}, "--loss must be 'non-saturating' or 'hinge'; got wasserstein."),
        ({"precision": "fp8"}, "--precision must be 'fp32' or 'bf16'; got fp8."),
        ({"threads": 0}, "--threads must be at least 1; got 0."),
        ({"beta": 1.0}, "--beta does not apply to digits-gan, which is a GAN."),
    ],
)
def test_new_config_names_the_option_the_value_and_the_limit(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        new_config("digits-gan", given)
    assert str(caught.value) == message


def test_resume_config_takes_the_options_of_the_run(tmp_path: Path) -> None:
    config = tiny_config("gan", seed=4)
    create(tmp_path / "run", config, overwrite=False)
    assert resume_config("digits-gan", tmp_path / "run", {}) == config
    assert resume_config("digits-gan", tmp_path / "run", {"seed": 4}) == config


@pytest.mark.parametrize(
    ("preset", "given", "option"),
    [
        ("digits-gan", {"seed": 5}, "--seed is 5 here, but the run in .* was started with 4"),
        ("digits-gan", {"total_kimg": 9.0}, r"--kimg is 9.0 here, but .* 0\.2"),
        ("digits-vae", {}, "PRESET is digits-vae here, but .* digits-gan"),
    ],
)
def test_resume_config_names_the_option_that_differs(
    tmp_path: Path, preset: str, given: dict[str, Any], option: str
) -> None:
    create(tmp_path / "run", tiny_config("gan", seed=4), overwrite=False)
    with pytest.raises(OptionError, match=option):
        resume_config(preset, tmp_path / "run", given)


def test_resume_config_says_so_when_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds no run\. Leave out --resume"):
        resume_config("digits-gan", tmp_path / "run", {})


def test_create_rejects_a_folder_that_holds_a_run(tmp_path: Path) -> None:
    create(tmp_path / "run", tiny_config("gan"), overwrite=False)
    with pytest.raises(RunFolderError, match=r"a run of digits-gan, at 0.0 of 0.2 kimg. Continue it with --resume"):
        create(tmp_path / "run", tiny_config("gan"), overwrite=False)


def test_create_replaces_a_run_and_nothing_else_when_told_to(tmp_path: Path) -> None:
    create(tmp_path, tiny_config("gan", seed=1), overwrite=False)
    (tmp_path / "samples").mkdir()
    (tmp_path / "resume.safetensors").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("mine")
    create(tmp_path, tiny_config("gan", seed=2), overwrite=True)
    assert read_config(tmp_path).seed == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_create_leaves_a_folder_of_other_things_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="holds files but no training run"):
        create(tmp_path, tiny_config("gan"), overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_create_rejects_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunFolderError, match=r"run is a file\. Choose another folder"):
        create(tmp_path / "run", tiny_config("gan"), overwrite=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ('{"format": 1}', "cannot be read"),
        ('{"format": 2, "config": {}}', "has format 2; this release reads up to 1"),
        ('{"format": 1, "config": {"family": "gan"}}', "Field required"),
    ],
)
def test_read_config_rejects_what_it_cannot_understand(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match=message):
        read_config(tmp_path)


def test_config_json_holds_every_option(tmp_path: Path) -> None:
    config = tiny_config("vae", beta=3.0)
    create(tmp_path, config, overwrite=False)
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config"]["beta"] == 3.0
    assert record["config"]["network"]["latent_dim"] == 4
    assert read_config(tmp_path) == config


def test_git_revision_is_none_when_there_is_no_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision.__wrapped__() is None
