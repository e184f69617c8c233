"""--from: what fits of another model of the family is taken; FreezeD keeps the discriminator's first layers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ganvas_core.cli import UsageError
from tests.support.training import TINY, TINY_UNCONDITIONAL, save_tiny, tiny_config, weights_of
from training.config import TrainConfig
from training.families import FAMILIES
from training.loop import train
from training.run.checkpoint import CheckpointError, load_model
from training.run.checkpoints import Checkpoints
from training.run.folder import create
from training.run.transfer import Transfer, frozen_parameters, take_weights

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT/checkpoint of a short run."""
    folder = tmp_path_factory.mktemp("source") / "run"
    create(folder, tiny_config("dcgan", seed=5), overwrite=False)
    train(tiny_config("dcgan", seed=5), folder)
    return folder / "checkpoint"


def transfer(
    source: Path, config: TrainConfig, labels: tuple[str, ...] = DIGITS
) -> tuple[Transfer, dict[str, torch.Tensor]]:
    """The weights of a fresh trainer that took what fits."""
    torch.manual_seed(1)
    trainer = FAMILIES[config.family].trainer(config, 100)
    taken = take_weights(source, trainer, config, labels)
    modules = trainer.modules.items()
    weights = {f"{name}.{key}": tensor for name, module in modules for key, tensor in module.state_dict().items()}
    return taken, weights


def test_same_network_takes_every_tensor(source: Path) -> None:
    taken, weights = transfer(source, tiny_config("dcgan"))
    assert taken.fresh == []
    average = load_file(source / "model.safetensors")
    state = load_file(source / "resume.safetensors")
    for name, tensor in weights.items():
        part, _, key = name.partition(".")
        # Generator and average start from the source's average, the discriminator from its resume state.
        expected = state[f"module.{name}"] if part == "discriminator" else average[f"generator.{key}"]
        assert torch.equal(tensor, expected), name


def test_other_classes_take_the_rows_of_the_same_name(source: Path) -> None:
    config = tiny_config("dcgan", network=dataclasses.replace(TINY, num_classes=3))
    taken, weights = transfer(source, config, ("7", "x", "2"))
    old = load_file(source / "model.safetensors")["generator.stem.embedding.weight"]
    new = weights["generator.stem.embedding.weight"]
    assert torch.equal(new[0], old[7])
    assert torch.equal(new[2], old[2])
    assert not torch.equal(new[1], old[1])
    assert taken.rows["generator.stem.embedding.weight"] == 2
    assert taken.rows["discriminator.embedding.weight"] == 2
    assert taken.fresh == []


def test_as_many_classes_of_other_names_start_fresh(source: Path) -> None:
    """Class 3 of another set is another class, though the shapes are the same."""
    taken, _ = transfer(source, tiny_config("dcgan"), tuple("abcdefghij"))
    assert sorted(taken.fresh) == [
        "discriminator.embedding.weight",
        "generator.stem.embedding.weight",
        "generator_ema.stem.embedding.weight",
    ]


def test_higher_resolution_takes_the_layers_that_are_the_same(source: Path) -> None:
    network = dataclasses.replace(TINY, image_size=16, base_channels=2)
    taken, weights = transfer(source, tiny_config("dcgan", network=network, discriminator_channels=2))
    old = load_file(source / "model.safetensors")
    assert torch.equal(weights["generator.blocks.0.weight"], old["generator.blocks.0.weight"])
    assert "generator.to_image.weight" in taken.fresh
    assert "start fresh: " in str(taken)


def test_checkpoint_without_a_resume_state_gives_no_discriminator(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c")
    taken, _ = transfer(tmp_path / "c", tiny_config("dcgan"))
    assert [name for name in taken.taken if name.startswith("discriminator.")] == []
    assert all(name.startswith("discriminator.") for name in taken.fresh)


def test_another_family_is_an_error(source: Path) -> None:
    with pytest.raises(UsageError, match=r"--from: .* is a dcgan, and digits-vae is a vae"):
        transfer(source, tiny_config("vae"))


def test_network_that_shares_hardly_anything_is_an_error(source: Path) -> None:
    network = dataclasses.replace(TINY_UNCONDITIONAL, base_channels=9)
    with pytest.raises(UsageError, match=r"gives [0-4]% of the generator's weights: the networks are too different"):
        transfer(source, tiny_config("dcgan", network=network), ())


def test_damaged_resume_state_is_named(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c")
    (tmp_path / "c" / "resume.safetensors").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(CheckpointError, match=r"--from: .*resume\.safetensors cannot be read"):
        transfer(tmp_path / "c", tiny_config("dcgan"))


def test_run_starts_from_a_checkpoint_says_so_and_resumes(tmp_path: Path, source: Path) -> None:
    config = tiny_config("dcgan", start_from=str(source), frozen_discriminator_layers=1)
    said: list[str] = []
    for name in ("whole", "parts"):
        create(tmp_path / name, config, overwrite=False)
    train(config, tmp_path / "whole", say=said.append)
    asked = iter([False] * 5 + [True])
    train(config, tmp_path / "parts", should_stop=lambda: next(asked))
    train(config, tmp_path / "parts")

    assert said[0].startswith("from digits-gan (dcgan, 0.192 kimg): took ")
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")
    model = load_model(tmp_path / "parts" / "checkpoint")
    assert model.info.started_from == load_model(source).sha256
    assert "from the weights" in (tmp_path / "parts" / "checkpoint" / "card.md").read_text()

    # The frozen layer is as it was, and the one after it is not.
    newest = Checkpoints(tmp_path / "parts", num_last=1).newest()
    assert newest is not None
    before, after = load_file(source / "resume.safetensors"), load_file(newest / "resume.safetensors")
    frozen, free = "module.discriminator.features.0.weight", "module.discriminator.to_score.weight"
    assert torch.equal(before[frozen], after[frozen])
    assert not torch.equal(before[free], after[free])


def test_frozen_layers_are_the_first_ones_and_not_all() -> None:
    discriminator = FAMILIES["dcgan"].trainer(tiny_config("dcgan"), 100).modules["discriminator"]
    names = {id(parameter): name for name, parameter in discriminator.named_parameters()}
    frozen = [names[id(parameter)] for parameter in frozen_parameters(discriminator, 1)]
    assert frozen == ["features.0.weight", "features.0.bias"]
    with pytest.raises(UsageError, match=r"must be below the discriminator's 3 layers; got 3"):
        frozen_parameters(discriminator, 3)


def test_frozen_layers_need_a_discriminator(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c", "vae")
    config = tiny_config("vae", start_from=str(tmp_path / "c"), frozen_discriminator_layers=1)
    create(tmp_path / "run", config, overwrite=False)
    with pytest.raises(UsageError, match="a vae has no discriminator"):
        train(config, tmp_path / "run")
