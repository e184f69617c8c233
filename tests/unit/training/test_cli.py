"""`./ganvas train` as a person runs it: in process for mistakes, in a process of its own for signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.cli import run
from tests.support.training import save_tiny, tiny_config, weights_of
from training.cli import train as train_verb
from training.loop import train
from training.presets import PRESETS
from training.run.folder import create


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["digits-gna"],
            "train: PRESET: there is no preset 'digits-gna'; did you mean digits-gan? There are: "
            f"{', '.join(PRESETS)}; or name a .toml file of your own.\n",
        ),
        (["digits-gan", "--kimg", "-3"], "train: --kimg must be more than 0; got -3.\n"),
        (
            ["digits-gan", "--set", "netwrok.base_chanels=32"],
            "train: --set: dcgan has no key 'netwrok.base_chanels'; did you mean network.base_channels? "
            "`./ganvas train --help` and docs/configuration.md list them.\n",
        ),
        (
            ["digits-gan", "--set", "batch_size"],
            "train: --set takes key=value, such as network.base_channels=32; got 'batch_size'.\n",
        ),
        (
            ["digits-gan", "--set", "seed=1", "--seed", "2"],
            "train: --set seed=1 contradicts its own option, 2: give one of them.\n",
        ),
        (
            ["digits-gan", "--device", "cuda:99"],
            f"train: --device: there is no cuda:99: PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs.\n",
        ),
        (
            ["digits-gan", "--data", "digit"],
            "train: --data: there is neither a data set nor a file or folder 'digit'. Data sets are digits, patches, "
            "fashion, critters, emoji and more: ./ganvas data list.\n",
        ),
        (["digits-vae", "--resume", "--overwrite"], "train: --resume and --overwrite exclude each other.\n"),
    ],
)
def test_train_says_what_is_wrong_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run(train_verb, [*arguments, "--out", str(tmp_path / "run")])
    assert (result.exit_code, result.stderr, result.stdout) == (2, message, "")
    assert list(tmp_path.iterdir()) == []


def test_wrong_checkpoint_to_start_from_leaves_no_run_behind(tmp_path: Path) -> None:
    """Else a second try with the right one would find a run in OUT."""
    save_tiny(tmp_path / "vae", "vae")
    for source, code, message in (
        (tmp_path / "vae", 2, "is a vae, and digits-gan is a dcgan: only one family has the same networks"),
        (tmp_path / "nothing", 2, "is not a checkpoint folder"),
    ):
        result = run(train_verb, ["digits-gan", "--from", str(source), "--out", str(tmp_path / "run")])
        assert (result.exit_code, result.stdout) == (code, "")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_train_says_how_to_go_on_when_the_folder_holds_a_run(tmp_path: Path) -> None:
    create(tmp_path, tiny_config("dcgan"), overwrite=False)
    result = run(train_verb, ["digits-gan", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "Continue it with --resume, replace it with --overwrite" in result.stderr


def test_train_prints_options_losses_and_where_the_checkpoint_is(tmp_path: Path) -> None:
    create(tmp_path, tiny_config("dcgan", seed=11), overwrite=False)
    result = run(train_verb, ["digits-gan", "--out", str(tmp_path), "--resume"])
    assert result.exit_code == 0, result.stdout + result.stderr
    assert "seed 11" in result.stdout
    assert "0.2/0.2 kimg" in result.stdout
    assert "coverage" in result.stdout
    assert str(tmp_path / "checkpoint") in result.stdout


def test_train_reports_a_damaged_resume_state_without_a_traceback(tmp_path: Path) -> None:
    create(tmp_path, tiny_config("dcgan"), overwrite=False)
    (tmp_path / "checkpoints" / "000000.016kimg").mkdir(parents=True)
    (tmp_path / "checkpoints" / "000000.016kimg" / "resume.safetensors").write_bytes(b"\x80\x04 a pickle")
    result = run(train_verb, ["digits-gan", "--out", str(tmp_path), "--resume"])
    assert result.exit_code == 2
    assert result.stderr.startswith("train: ")
    assert "not a usable resume state" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_train_help_shows_an_example_and_every_option() -> None:
    result = run(train_verb, ["--help"], env={"COLUMNS": "200"})
    assert "Example: ./ganvas train folder --data my-images" in result.stdout
    for option in ("--data", "--set", "--from", "--device", "--out", "--kimg", "--resume-at", "--overwrite"):
        assert option in result.stdout


INTERRUPTED = """
import os, signal, sys
from training.__main__ import main

def press_ctrl_c(event, arguments):
    global pressed
    if event == "os.link" and not pressed:
        pressed = True
        os.kill(os.getpid(), signal.SIGINT)

pressed = False
sys.addaudithook(press_ctrl_c)
sys.argv = ["training", *sys.argv[1:]]
main()
"""
"""Ctrl-C while the first checkpoint is being put in OUT/checkpoint: from outside it may come after the last step."""


@pytest.mark.slow
def test_train_saves_when_ctrl_c_is_pressed_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = tiny_config("vae", total_kimg=3.2, save_kimg=0.32)
    for name in ("whole", "parts"):
        create(tmp_path / name, config, overwrite=False)
    train(config, tmp_path / "whole")
    out = tmp_path / "parts"
    command = [sys.executable, "-c", INTERRUPTED, "train", "digits-vae", "--out", str(out), "--resume"]
    stopped = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert stopped.returncode == 130, stopped.stderr
    assert "train: stopped at " in stopped.stderr
    assert f"Continue with: ./ganvas train digits-vae --out {out} --resume" in stopped.stderr
    assert train(config, out).finished
    assert weights_of(out) == weights_of(tmp_path / "whole")
