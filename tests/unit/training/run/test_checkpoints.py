"""Several checkpoints are kept: the last ones and the best, each one to export and to continue from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from ganvas_core.cli import UsageError
from tests.support.cli import run
from tests.support.training import save_tiny, tiny_config, weights_of
from training.cli import train as train_verb
from training.loop import train
from training.run.checkpoint import load_model
from training.run.checkpoints import Checkpoints
from training.run.folder import RunFolderError, create
from training.run.report import StepReport

CONFIG = tiny_config("vae", save_kimg=0.032, num_checkpoints=2)  # a checkpoint every 2 steps, 12 steps in all


def save_measured(checkpoints: Checkpoints, values: dict[int, float | None], *, error: float = 0.01) -> None:
    """A checkpoint at each of these kimg that measured this kernel distance."""
    for kimg, value in values.items():
        folder = checkpoints.folder / f"{kimg:06d}.000kimg"
        save_tiny(folder)
        record = json.loads((folder / "model.json").read_text())
        record["metrics"] = {} if value is None else {"kernel_distance": value, "kernel_distance_error": error}
        record["kimg"] = float(kimg)
        (folder / "model.json").write_text(json.dumps(record))
        checkpoints.settle()


def kept(checkpoints: Checkpoints) -> list[int]:
    return [round(float(path.name.removesuffix("kimg"))) for path in checkpoints.kept()]


def test_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_last=2)
    save_measured(checkpoints, {1: 0.5, 2: 0.1, 3: 0.4, 4: None, 5: 0.3})
    assert kept(checkpoints) == [2, 4, 5]
    assert load_model(checkpoints.exported).info.kimg == 2.0
    save_measured(checkpoints, {6: 0.05})
    assert kept(checkpoints) == [5, 6]
    assert load_model(checkpoints.exported).info.kimg == 6.0


def exported_kimg(checkpoints: Checkpoints) -> float:
    return load_model(checkpoints.exported).info.kimg


def test_later_checkpoint_is_exported_unless_it_is_worse_by_more_than_chance(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_last=2)
    save_measured(checkpoints, {1: 0.50, 2: 0.59}, error=0.05)
    assert exported_kimg(checkpoints) == 2.0
    save_measured(checkpoints, {3: 0.61}, error=0.05)
    assert exported_kimg(checkpoints) == 2.0


def test_distance_that_creeps_up_is_compared_with_the_lowest_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_last=1)
    save_measured(checkpoints, {kimg: 0.50 + 0.03 * kimg for kimg in range(1, 9)}, error=0.05)
    assert exported_kimg(checkpoints) == 4.0
    assert kept(checkpoints) == [1, 4, 8]


def test_checkpoints_without_an_error_are_chosen_by_the_lowest_distance(tmp_path: Path) -> None:
    """Those of a run that an earlier release began."""
    checkpoints = Checkpoints(tmp_path, num_last=3)
    save_measured(checkpoints, {1: 0.50, 2: 0.51})
    for path in checkpoints.kept():
        record = json.loads((path / "model.json").read_text())
        del record["metrics"]["kernel_distance_error"]
        (path / "model.json").write_text(json.dumps(record))
    checkpoints.settle()
    assert exported_kimg(checkpoints) == 1.0


def test_newest_is_exported_while_nothing_is_measured(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_last=2)
    save_measured(checkpoints, {1: None, 2: None, 3: None})
    assert kept(checkpoints) == [2, 3]
    assert load_model(checkpoints.exported).info.kimg == 3.0


def test_exported_checkpoint_takes_no_room(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_last=2)
    save_measured(checkpoints, {1: 0.5})
    best = checkpoints.best()
    assert best is not None
    assert (best / "model.safetensors").samefile(checkpoints.exported / "model.safetensors")


def test_exported_checkpoint_is_copied_where_there_are_no_hard_links(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_last=2)
    with mock.patch.object(os, "link", side_effect=OSError(1, "Operation not permitted")):
        save_measured(checkpoints, {1: 0.5})
    assert load_model(checkpoints.exported).info.kimg == 1.0


def test_every_kept_checkpoint_continues_to_the_same_bits(tmp_path: Path) -> None:
    create(tmp_path, CONFIG, overwrite=False)
    assert train(CONFIG, tmp_path).finished
    weights = weights_of(tmp_path)
    checkpoints = Checkpoints(tmp_path, num_last=2)
    all_kept = checkpoints.kept()
    assert 2 <= len(all_kept) <= 4
    for path in reversed(all_kept):
        assert path.is_dir()
        assert train(CONFIG, tmp_path, resume_at=path).finished
        assert weights_of(tmp_path) == weights


def test_resume_at_continues_from_an_earlier_checkpoint(tmp_path: Path) -> None:
    create(tmp_path, CONFIG, overwrite=False)
    train(CONFIG, tmp_path)
    steps: list[int] = []
    checkpoints = Checkpoints(tmp_path, num_last=2)
    train(CONFIG, tmp_path, resume_at=checkpoints.at(0.16), on_step=lambda report: steps.append(report.step))
    assert steps == [10, 11, 12]
    lines = (tmp_path / "curves.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, lines) if "losses" in line] == list(range(1, 13))


def test_resume_at_lists_the_checkpoints_when_there_is_no_such(tmp_path: Path) -> None:
    create(tmp_path, CONFIG, overwrite=False)
    train(CONFIG, tmp_path)
    with pytest.raises(UsageError, match=r"--resume-at: no checkpoint of 7 kimg is kept. There are: .*0\.16, 0\.192\."):
        Checkpoints(tmp_path, num_last=2).at(7.0)
    result = run(train_verb, ["digits-vae", "--out", str(tmp_path), "--resume-at", "7"])
    assert (result.exit_code, result.stderr[:42]) == (2, "train: --resume-at: no checkpoint of 7 kim")


def test_half_deleted_checkpoint_is_none(tmp_path: Path) -> None:
    """Killed while it deletes, a run leaves no checkpoint that is not whole; the next start clears it away."""
    checkpoints = Checkpoints(tmp_path, num_last=1)
    save_measured(checkpoints, {1: None})
    remove = shutil.rmtree

    def die_at_a_checkpoint(path: Path, *options: object, **named: object) -> None:
        if path.name.startswith(".pruned"):
            (path / "model.json").unlink()
            raise KeyboardInterrupt
        remove(path, ignore_errors=True)

    with mock.patch("shutil.rmtree", die_at_a_checkpoint), pytest.raises(KeyboardInterrupt):
        save_measured(checkpoints, {2: None})
    assert kept(checkpoints) == [2]
    checkpoints.clean()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["000002.000kimg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "checkpoints"]
    assert load_model(checkpoints.exported).info.kimg == 2.0


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    create(tmp_path, CONFIG, overwrite=False)

    def train_here_too(report: StepReport) -> None:
        train(CONFIG, tmp_path)

    with pytest.raises(RunFolderError, match="another process trains in"):
        train(CONFIG, tmp_path, on_step=train_here_too)


def test_run_is_not_overwritten_while_another_process_trains_in_it(tmp_path: Path) -> None:
    create(tmp_path, CONFIG, overwrite=False)
    refused: list[str] = []

    def overwrite(report: StepReport) -> None:
        with pytest.raises(RunFolderError, match="another process trains in") as error:
            create(tmp_path, CONFIG, overwrite=True)
        refused.append(str(error.value))

    outcome = train(CONFIG, tmp_path, on_step=overwrite, should_stop=lambda: len(refused) > 2)
    assert len(refused) == 3
    assert outcome.kimg > 0
    assert (tmp_path / "checkpoint" / "model.json").is_file()


@pytest.mark.slow
def test_killed_run_leaves_whole_checkpoints_and_nothing_temporary_after_the_next_start(tmp_path: Path) -> None:
    """SIGKILL while it saves at every step."""
    config = tiny_config("vae", save_kimg=0.016, num_checkpoints=2, total_kimg=1600.0)
    create(tmp_path, config, overwrite=False)
    command = [sys.executable, "-m", "training", "train", "digits-vae", "--out", str(tmp_path), "--resume"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(Checkpoints(tmp_path, num_last=2).kept()) < 2:
        assert process.poll() is None, "it ended before it saved"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for path in Checkpoints(tmp_path, num_last=2).kept():
        load_model(path)
    outcome = train(config, tmp_path, should_stop=lambda: True)
    assert outcome.kimg > 0
    load_model(tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.rglob(".*")] == []
