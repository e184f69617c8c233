from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.disk import full_disk
from tests.support.training import TINY_UNCONDITIONAL, tiny_config
from training.data.digits import split_digits
from training.loop import train
from training.run.checkpoint import CheckpointError, load_model
from training.run.folder import create


@pytest.mark.parametrize("family", ["dcgan", "vae"])
def test_train_writes_a_checkpoint_that_says_where_it_comes_from(tmp_path: Path, family: str) -> None:
    config = tiny_config(family, seed=7)
    create(tmp_path / "run", config, overwrite=False)
    steps: list[int] = []
    outcome = train(config, tmp_path / "run", on_step=lambda report: steps.append(report.step))

    model = load_model(tmp_path / "run" / "checkpoint")
    assert steps == list(range(config.num_steps + 1))
    assert (model.info.family, model.info.preset, model.info.seed) == (family, config.preset, 7)
    assert model.info.kimg == outcome.kimg == config.num_steps * 16 / 1000
    assert model.info.labels == tuple("0123456789")
    assert model.info.dataset.sha256 == split_digits(8).train.sha256
    assert model.info.torch == torch.__version__
    assert model.info.metrics == outcome.metrics
    assert ("psnr_db" in outcome.metrics) == (family == "vae")
    assert {"kernel_distance", "frechet_ratio", "density", "coverage", "class_agreement"} < set(outcome.metrics)


def test_train_draws_grids_marked_as_ai_generated(tmp_path: Path) -> None:
    config = tiny_config("vae", samples_kimg=0.1)
    create(tmp_path, config, overwrite=False)
    train(config, tmp_path)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    stamps = ("00000.112kimg", "00000.192kimg")
    assert names == [f"{kind}-{stamp}.png" for kind in ("reconstructions", "samples") for stamp in stamps]
    with Image.open(tmp_path / "samples" / names[-1]) as grid:
        assert grid.size == (102, 102)
        assert grid.info["ganvas:machine-made"] == "true"
        assert grid.info["ganvas:model"] == "digits-vae"
        assert grid.info["ganvas:kimg"] == "0.192"


def test_train_shows_one_real_scan_of_each_label(tmp_path: Path) -> None:
    config = tiny_config("dcgan")
    create(tmp_path, config, overwrite=False)
    train(config, tmp_path, should_stop=lambda: True)
    dataset = split_digits(8).train
    assert dataset.labels is not None
    for label in range(10):
        with Image.open(tmp_path / "examples" / f"{label:03d}.png") as scan:
            assert scan.info["ganvas:label"] == str(label)
            assert scan.info["ganvas:machine-made"] == "false"
            assert np.array_equal(np.asarray(scan), dataset.images[dataset.labels.tolist().index(label), 0])


def test_train_improves_the_vae(tmp_path: Path) -> None:
    config = tiny_config("vae", total_kimg=4.0, learning_rate=0.01)
    create(tmp_path, config, overwrite=False)
    history: list[float] = []
    outcome = train(config, tmp_path, on_step=lambda report: history.append(report.losses.get("reconstruction", 0.0)))
    assert sum(history[-20:]) < 0.7 * sum(history[1:21])
    assert outcome.metrics["psnr_db"] > 11.0


def test_train_keeps_what_it_saved_when_the_disk_is_full(tmp_path: Path) -> None:
    config = tiny_config("dcgan", save_kimg=0.064)
    create(tmp_path, config, overwrite=False)
    train(config, tmp_path, should_stop=iter([False] * 5 + [True]).__next__)
    before = checkpoint_files(tmp_path)
    with full_disk(), pytest.raises((OSError, CheckpointError)):
        train(config, tmp_path)
    assert checkpoint_files(tmp_path) == before
    assert train(config, tmp_path).finished


def checkpoint_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.glob("checkpoint*/**/*") if path.is_file()}


def test_what_is_left_out_of_the_data_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANVAS_DATA", str(tmp_path / "prepared"))
    (tmp_path / "images").mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    config = tiny_config("dcgan", network=TINY_UNCONDITIONAL, data=str(tmp_path / "images"), total_kimg=0.001)
    create(tmp_path / "run", config, overwrite=False)
    said: list[str] = []
    train(config, tmp_path / "run", say=said.append)
    assert said == ["data: 1 files are not images"]


def test_train_restores_the_number_of_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    config = tiny_config("dcgan", total_kimg=0.001)
    create(tmp_path, config, overwrite=False)
    train(config, tmp_path)
    assert torch.get_num_threads() == before
    assert json.loads((tmp_path / "config.json").read_text())["config"]["threads"] == 1


@pytest.mark.parametrize("family", ["dcgan", "vae"])
def test_train_works_without_labels(tmp_path: Path, family: str) -> None:
    config = tiny_config(family, network=TINY_UNCONDITIONAL)
    create(tmp_path, config, overwrite=False)
    outcome = train(config, tmp_path)
    assert load_model(tmp_path / "checkpoint").info.labels == ()
    assert "class_agreement" not in outcome.metrics
    assert outcome.metrics["density"] >= 0
    (grid,) = (tmp_path / "samples").glob("samples-*.png")
    with Image.open(grid) as sheet:
        assert sheet.size == (102, 102)
