"""Two processes under torchrun train as one process with the joint batch does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ganvas_core.cli import UsageError
from tests.support.training import tiny_config
from tests.support.two_processes import JointNoise, config, without_batch_norm
from training.loop import train
from training.run.checkpoint import CheckpointError, load_model
from training.run.checkpoints import Checkpoints
from training.run.curves import read_curves
from training.run.distributed import Processes
from training.run.folder import create


def torchrun(*arguments: str) -> None:
    """The arguments in two processes, on a port that is free."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def newest(folder: Path) -> Path:
    found = Checkpoints(folder, num_last=1).newest()
    assert found is not None
    return found


@pytest.mark.slow
def test_two_processes_equal_one_with_the_joint_batch(tmp_path: Path) -> None:
    torchrun("-m", "tests.support.two_processes", str(tmp_path / "two"))

    create(tmp_path / "one", config(), overwrite=False)
    with without_batch_norm(), JointNoise(config().seed, size=2):
        train(config(), tmp_path / "one")

    with without_batch_norm():
        create(tmp_path / "other noise", config(), overwrite=False)
        train(config(), tmp_path / "other noise")

    one, two, other = (
        load_file(newest(tmp_path / name) / "resume.safetensors") for name in ("one", "two", "other noise")
    )
    weights = [name for name in one if name.startswith("module.")]
    assert len(weights) > 20

    def largest_distance(ones: dict[str, Tensor]) -> float:
        pairs = [(one[name].float(), ones[name].float()) for name in weights]
        return max(float((a - b).norm() / a.norm().clamp_min(1e-3)) for a, b in pairs)

    assert largest_distance(two) < 1e-5
    # The comparison tells runs apart.
    assert largest_distance(other) > 1e-2

    # The first process alone writes, each line once.
    steps = [line["step"] for line in read_curves(tmp_path / "two" / "curves.jsonl") if "losses" in line]
    assert steps == list(range(1, 13))
    with without_batch_norm(), pytest.raises(CheckpointError, match=r"saved by 2 processes, and this run has 1"):
        train(config(), tmp_path / "two", resume_at=Checkpoints(tmp_path / "two", num_last=3).kept()[0])


@pytest.mark.slow
def test_train_verb_runs_under_torchrun_and_resumes(tmp_path: Path) -> None:
    """With batch norm: the running statistics of both processes are averaged when the run is saved."""
    sets = ["network.image_size=8", "network.base_channels=4", "network.latent_dim=4", "discriminator_channels=4"]
    sets += ["batch_size=16", "save_kimg=0.1", "device=cpu"]
    arguments = ["-m", "training", "train", "digits-gan", "--out", str(tmp_path), "--kimg", "0.2"]
    torchrun(*arguments, *(part for one in sets for part in ("--set", one)))
    assert load_model(tmp_path / "checkpoint").info.kimg > 0
    whole = load_file(newest(tmp_path) / "resume.safetensors")
    torchrun("-m", "training", "train", "digits-gan", "--out", str(tmp_path), "--resume-at", "0.112")
    again = load_file(newest(tmp_path) / "resume.safetensors")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert {"rng.0", "rng.1"} <= whole.keys()
    assert not torch.equal(whole["rng.0"], whole["rng.1"])


def test_batch_that_cannot_be_shared_evenly_is_an_error(tmp_path: Path) -> None:
    create(tmp_path, tiny_config("vae"), overwrite=False)
    with pytest.raises(UsageError, match=r"batch_size 16 cannot be shared evenly by 3 processes: --set batch_size=15"):
        train(tiny_config("vae"), tmp_path, processes=Processes(0, 3))


def test_fp16_is_refused_with_several_processes(tmp_path: Path) -> None:
    create(tmp_path, tiny_config("vae"), overwrite=False)
    with pytest.raises(UsageError, match="with several take bf16"):
        train(tiny_config("vae", precision="fp16"), tmp_path, processes=Processes(0, 2))
