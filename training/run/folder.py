"""The folder of one training run.

OUT/config.json            the resolved options
OUT/checkpoints/           the last checkpoints and the best ones, each with its resume state: a run continues from any
OUT/checkpoint/            the best of them, what export reads
OUT/curves.jsonl           losses and speed over time, and what each checkpoint measured; the same in tensorboard/
OUT/examples/              images from the data set
OUT/samples/               sample grids, and reconstructions where there is an encoder, by kimg
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from pydantic import TypeAdapter

from ganvas_core.cli import UsageError
from ganvas_core.files import write_atomic
from training.config import TrainConfig
from training.presets import parse_config
from training.run.checkpoints import CHECKPOINT_NAME, CHECKPOINTS_NAME, Checkpoints
from training.run.curves import CURVES_NAME, TENSORBOARD_NAME
from training.run.distributed import Processes
from training.run.resume import RESUME_NAME, read_position

__all__ = [
    "CHECKPOINT_NAME",
    "CONFIG_NAME",
    "EXAMPLES_NAME",
    "SAMPLES_NAME",
    "RunFolderError",
    "create",
    "git_revision",
    "locked",
    "read_config",
]

CONFIG_NAME = "config.json"
SAMPLES_NAME = "samples"
EXAMPLES_NAME = "examples"
FORMAT = 2
"""Format 1 named its data set `dataset`, and kept one checkpoint."""


class RunFolderError(UsageError):
    """The run folder cannot be used as asked: the message says what is there and what to do."""


def create(folder: Path, config: TrainConfig, *, overwrite: bool) -> None:
    """Make the folder of a new run and write config.json into it.

    Raises:
        RunFolderError: the folder holds a run and overwrite is False, or another process trains in it, or it holds
            something else.
        OSError: the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"--out: {folder} is a file. Choose another folder.")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / CONFIG_NAME).is_file():
            raise RunFolderError(f"--out: {folder} holds files but no training run. Choose another folder.")
        if not overwrite:
            raise RunFolderError(
                f"--out: {folder} already holds a run{_progress(folder)}. Continue it with --resume, "
                "replace it with --overwrite, or choose another folder."
            )
        with locked(folder, by=Processes()):
            _delete_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "format": FORMAT,
        "config": TypeAdapter(type(config)).dump_python(config, mode="json"),
        "torch": torch.__version__,
        "git_revision": git_revision(),
    }
    write_atomic(folder / CONFIG_NAME, (json.dumps(record, indent=2) + "\n").encode())


def _delete_run(folder: Path) -> None:
    """Delete what a run writes, and nothing else."""
    (folder / CURVES_NAME).unlink(missing_ok=True)
    for name in (CHECKPOINT_NAME, CHECKPOINTS_NAME, EXAMPLES_NAME, SAMPLES_NAME, TENSORBOARD_NAME):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / CONFIG_NAME).unlink()


def read_config(folder: Path) -> TrainConfig:
    """The options that the run in `folder` was started with.

    Raises:
        RunFolderError: there is no run, or its config.json cannot be read.
    """
    path = folder / CONFIG_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, config = int(record["format"]), dict(record["config"])
    except FileNotFoundError:
        raise RunFolderError(f"--resume: {folder} holds no run. Leave out --resume to start one.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"--resume: {path} cannot be read: {error}. Start again with --overwrite.") from None
    if version != FORMAT:
        remedy = "Upgrade Ganvas." if version > FORMAT else "Finish the run with the release that started it."
        raise RunFolderError(f"--resume: {path} has format {version}; this release reads format {FORMAT}. {remedy}")
    try:
        return parse_config(config, where=str(path))
    except UsageError as error:
        raise RunFolderError(f"--resume: {error} Start again with --overwrite.") from None


@contextmanager
def locked(folder: Path, *, by: Processes) -> Iterator[None]:
    """Keep every other process from training in this folder.

    Raises:
        RunFolderError: another one does.
    """
    if not by.is_first:
        yield
        return
    with (folder / CONFIG_NAME).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunFolderError(
                f"--out: another process trains in {folder}. Stop it, or choose another folder."
            ) from None
        yield


@lru_cache(maxsize=1)
def git_revision() -> str | None:
    """The commit of this checkout, with `-dirty` where files differ from it; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            start_new_session=True,  # else a Ctrl-C in the terminal would end it
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _progress(folder: Path) -> str:
    """` of digits-gan, at 12.8 of 60 kimg`, as far as it can be read."""
    try:
        config = read_config(folder)
        newest = Checkpoints(folder, num_last=1).newest()
        done = config.kimg(read_position(newest / RESUME_NAME).step) if newest else 0
    except Exception:  # This only describes the folder in another error.
        return ""
    return f" of {config.preset}, at {done:.1f} of {config.total_kimg:g} kimg"
