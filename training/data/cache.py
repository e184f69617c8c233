"""Prepared images on disk, mapped into memory: decoded and resized once, however often they are trained on.

    data/prepared/KEY/train.npy  held_out.npy   [N, C, H, W] uint8
    data/prepared/KEY/facts.json                labels, names, hashes, notes

A folder is written whole or not at all. The oldest give way to new ones.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganvas_core.cli import UserError
from ganvas_core.files import write_synced
from training.data.dataset import Dataset, Split
from training.data.folders import prepared_folder

__all__ = ["MAX_BYTES", "load_prepared", "make_room", "one_at_a_time", "write_part", "write_prepared_facts"]

MAX_BYTES = 20 * 2**30
"""Size of all prepared data sets together."""
FACTS_NAME = "facts.json"
LOCK_NAME = ".lock"
PARTS = ("train", "held_out")


def load_prepared(folder: Path) -> Split | None:
    """What was prepared before; None where it was not, or is damaged."""
    facts_path = folder / FACTS_NAME
    try:
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
        parts = {}
        for part in PARTS:
            known = facts[part]
            labels = known["labels"]
            parts[part] = Dataset(
                name=facts["name"],
                images=_mapped(folder / f"{part}.npy"),
                labels=None if labels is None else torch.tensor(labels, dtype=torch.int64),
                label_names=tuple(facts["label_names"]),
                source=facts["source"],
                license=facts["license"],
                known_sha256=known["sha256"],
            )
            if len(parts[part]) != known["size"]:
                return None
        split = Split(train=parts["train"], held_out=parts["held_out"], notes=tuple(facts["notes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):  # a data folder that cannot be written to is read all the same
        facts_path.touch()  # what was used last goes last
    return split


def _mapped(path: Path) -> Tensor:
    # PyTorch has no tensors that cannot be written to, so the file is mapped copy-on-write: it never changes.
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def write_part(path: Path, rows: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> None:
    """A .npy file, row by row. Through a file and not a mapping, since a full disk would kill the process there."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        for row in rows:
            file.write(row.tobytes())


def write_prepared_facts(folder: Path, split: Split) -> None:
    facts: dict[str, object] = {
        "name": split.train.name,
        "source": split.train.source,
        "license": split.train.license,
        "label_names": split.train.label_names,
        "notes": split.notes,
    }
    for part, dataset in zip(PARTS, (split.train, split.held_out), strict=True):
        labels = None if dataset.labels is None else dataset.labels.tolist()
        facts[part] = {"size": len(dataset), "labels": labels, "sha256": dataset.sha256}
    write_synced(folder / FACTS_NAME, json.dumps(facts).encode())


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let no two processes prepare at the same time: those of one run would prepare the same images."""
    root = prepared_folder()
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_room(num_bytes: int) -> None:
    """Delete what was not used for longest until so much fits below MAX_BYTES.

    Raises:
        UserError: the disk has too little room even so.
    """
    root = prepared_folder()
    sizes = {}
    for folder in (path for path in root.iterdir() if path.is_dir()):
        with suppress(OSError):  # another process may be deleting it
            files = [path.stat() for path in folder.iterdir()]
            used = max((state.st_mtime for state in files), default=0.0)
            sizes[folder] = (used, sum(state.st_size for state in files))
    total = sum(size for _, size in sizes.values())
    for folder, (_, size) in sorted(sizes.items(), key=lambda item: item[1]):
        if total + num_bytes <= MAX_BYTES:
            break
        shutil.rmtree(folder, ignore_errors=True)
        total -= size
    free = shutil.disk_usage(root).free
    if free < num_bytes:
        raise UserError(
            f"{root} has {free >> 20} MiB free, and the prepared images need {num_bytes >> 20}. "
            "Make room, --set max_images=10000, or set GANVAS_DATA to a folder on another disk."
        )
