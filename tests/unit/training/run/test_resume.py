"""An interrupted and resumed run ends with the same bytes in every tensor as an uninterrupted one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.support.images import save_images
from tests.support.training import TINY_UNCONDITIONAL, tiny_config, weights_of
from training.loop import train
from training.run.checkpoint import CheckpointError, load_model
from training.run.checkpoints import Checkpoints
from training.run.folder import create
from training.run.report import StepReport
from training.run.resume import RESUME_NAME, load_resume, read_position


class Killed(BaseException):
    """Simulates kill -9: no cleanup code runs after it."""


def start(folder: Path, family: str, **options: object) -> Path:
    create(folder, tiny_config(family, **options), overwrite=False)
    return folder


def newest(folder: Path) -> Path:
    found = Checkpoints(folder, num_last=1).newest()
    assert found is not None
    return found


def stop_after(num_steps: int) -> Callable[[], bool]:
    asked = iter(range(10_000))
    return lambda: next(asked) == num_steps


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("dcgan", {"seed": 5}),
        ("dcgan", {"loss": "hinge", "gamma": 0.0}),
        ("dcgan", {"precision": "bf16"}),
        ("dcgan", {"augment": "adaptive", "augment_kimg": 0.2, "final_learning_rate": 1e-4}),
        ("vae", {}),
    ],
)
def test_train_gives_the_same_weights_when_stopped_and_resumed(
    tmp_path: Path, family: str, options: dict[str, object]
) -> None:
    config = tiny_config(family, **options)
    whole, parts = start(tmp_path / "whole", family, **options), start(tmp_path / "parts", family, **options)
    assert train(config, whole).finished

    for steps in (3, 4):
        outcome = train(config, parts, should_stop=stop_after(steps))
        assert not outcome.finished
    assert read_position(newest(parts) / RESUME_NAME).step == 7
    assert train(config, parts).finished

    assert weights_of(parts) == weights_of(whole)
    assert load_model(newest(parts)).info == load_model(newest(whole)).info


@pytest.mark.parametrize("family", ["dcgan", "vae"])
def test_train_loses_at_most_one_interval_when_killed(tmp_path: Path, family: str) -> None:
    config = tiny_config(family, save_kimg=0.064)  # Every 4 steps.
    whole, killed = start(tmp_path / "whole", family), start(tmp_path / "killed", family)
    train(config, whole)

    def kill_at_step_10(report: StepReport) -> None:
        if report.step == 10:
            raise Killed

    with pytest.raises(Killed):
        train(config, killed, on_step=kill_at_step_10)
    assert read_position(newest(killed) / RESUME_NAME).step == 8
    train(config, killed)

    assert weights_of(killed) == weights_of(whole)


@pytest.mark.parametrize("family", ["dcgan", "vae"])
def test_train_repeats_itself_with_the_same_seed_only(tmp_path: Path, family: str) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(hash(name) % 1000)  # The global stream must not matter.
        train(tiny_config(family, seed=seed), start(tmp_path / name, family, seed=seed))
        runs.append(weights_of(tmp_path / name))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_train_saves_no_state_when_stopped_before_the_first_step(tmp_path: Path) -> None:
    folder = start(tmp_path / "run", "dcgan")
    assert not train(tiny_config("dcgan"), folder, should_stop=lambda: True).finished
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "examples", "tensorboard"]


def test_train_does_nothing_more_when_already_finished(tmp_path: Path) -> None:
    folder = start(tmp_path / "run", "dcgan")
    first = train(tiny_config("dcgan"), folder)
    changed = (newest(folder) / "model.safetensors").stat().st_mtime_ns
    assert train(tiny_config("dcgan"), folder) == first
    assert (newest(folder) / "model.safetensors").stat().st_mtime_ns == changed


@pytest.mark.parametrize("keep", [0, 7, 500, 9000])
def test_train_rejects_a_truncated_resume_state(tmp_path: Path, keep: int) -> None:
    folder = start(tmp_path / "run", "dcgan")
    train(tiny_config("dcgan"), folder, should_stop=stop_after(2))
    path = newest(folder) / RESUME_NAME
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"not a usable resume state: .*--overwrite"):
        train(tiny_config("dcgan"), folder)


def test_train_rejects_the_resume_state_of_another_family(tmp_path: Path) -> None:
    folder = start(tmp_path / "run", "dcgan")
    train(tiny_config("dcgan"), folder, should_stop=stop_after(2))
    with pytest.raises(CheckpointError, match="not a usable resume state"):
        train(tiny_config("vae"), folder)


@pytest.mark.parametrize(("file_format", "remedy"), [("2", "Finish the run with the release"), ("4", "Upgrade Ganvas")])
def test_load_resume_rejects_another_format(tmp_path: Path, file_format: str, remedy: str) -> None:
    path = tmp_path / "resume.safetensors"
    safetensors.torch.save_file({"rng": torch.zeros(1)}, path, metadata={"format": file_format, "step": "1"})
    with pytest.raises(CheckpointError, match=rf"has format {file_format}; this release reads format 3\. {remedy}"):
        load_resume(path, trainer=None, rng=torch.Generator(), rank=0, num_processes=1)  # type: ignore[arg-type]


def test_run_says_that_its_images_have_changed_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANVAS_DATA", str(tmp_path / "kept"))
    save_images(tmp_path / "mine", 30, size=(8, 8))
    options = {"data": str(tmp_path / "mine"), "network": dataclasses.replace(TINY_UNCONDITIONAL, image_channels=3)}
    run, config = start(tmp_path / "run", "dcgan", **options), tiny_config("dcgan", **options)
    said: list[str] = []
    train(config, run, should_stop=stop_after(2), say=said.append)
    train(config, run, should_stop=stop_after(2), say=said.append)
    assert said == []
    save_images(tmp_path / "mine", 10, start=30, size=(8, 8))
    train(config, run, should_stop=stop_after(2), say=said.append)
    assert said == [
        "data: mine has changed since the run was saved: 27 images to train on then, 36 now. "
        "Some that were held out may be trained on."
    ]
