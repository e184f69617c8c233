"""The checkpoints of a run: OUT/checkpoints holds the last ones, the best one and the one of the lowest distance, each
whole and with its resume state.

OUT/checkpoint is the best one, for export: the same files by hard links.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ganvas_core.cli import UsageError
from ganvas_core.files import atomic_folder, clean_temporary
from training.run.checkpoint import INFO_NAME, CheckpointError, read_info

__all__ = ["CHECKPOINTS_NAME", "CHECKPOINT_NAME", "Checkpoints", "name_at"]

CHECKPOINT_NAME = "checkpoint"
CHECKPOINTS_NAME = "checkpoints"

DISTANCE, DISTANCE_ERROR = "kernel_distance", "kernel_distance_error"
NUM_ERRORS = 2.0
"""Standard errors by which a checkpoint's kernel distance must lie above the lowest one to count as worse."""


class Checkpoints:
    """What is kept of a run. One process at a time may write."""

    def __init__(self, run: Path, *, num_last: int) -> None:
        self.folder = run / CHECKPOINTS_NAME
        self.exported = run / CHECKPOINT_NAME
        self.num_last = num_last

    def kept(self) -> list[Path]:
        """Every checkpoint, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.name.endswith("kimg") and path.name[0] != ".")

    def newest(self) -> Path | None:
        return kept[-1] if (kept := self.kept()) else None

    def best(self) -> Path | None:
        """The newest one that is not worse than the one measured lowest by more than chance.

        What is compared is the kernel distance to held-out images, or the PSNR where there is no distance. Where
        nothing was measured, it is the newest. More training helps more often than not, so a difference that other
        images might turn round does not decide for an earlier checkpoint (model selection's one-standard-error rule,
        with two).
        """
        measured = {path: _metrics(path) for path in self.kept()}
        if lowest := _lowest(measured):
            limit = measured[lowest][DISTANCE] + NUM_ERRORS * measured[lowest].get(DISTANCE_ERROR, 0.0)
            return [path for path, metrics in measured.items() if metrics.get(DISTANCE, math.inf) <= limit][-1]
        values = {path: metrics["psnr_db"] for path, metrics in measured.items() if "psnr_db" in metrics}
        return max(values, key=lambda path: (values[path], path)) if values else self.newest()

    def at(self, kimg: float) -> Path:
        """The checkpoint of so many thousand images.

        Raises:
            UsageError: it is not kept.
        """
        path = self.folder / name_at(kimg)
        if not path.is_dir():
            kept = ", ".join(f"{float(one.name.removesuffix('kimg')):g}" for one in self.kept())
            raise UsageError(f"--resume-at: no checkpoint of {kimg:g} kimg is kept. There are: {kept or 'none'}.")
        return path

    def clean(self) -> None:
        """Finish what a killed process left half done."""
        clean_temporary(self.exported)
        for left in self.folder.glob(".*kimg.*") if self.folder.is_dir() else ():
            if left.name.startswith(".pruned."):
                shutil.rmtree(left)
            else:
                clean_temporary(self.folder / left.name[1:].rpartition(".")[0])
        self.settle()

    def settle(self) -> None:
        """Make OUT/checkpoint the best one, and delete what is neither among the last ones nor best nor lowest.

        Without the lowest one, later ones would be compared with ever worse ones.
        """
        best = self.best()
        if best is None:
            return
        if not _same_file(best / INFO_NAME, self.exported / INFO_NAME):
            with atomic_folder(self.exported) as temporary:
                for path in best.iterdir():
                    _link(path, temporary / path.name)
        lowest = _lowest({path: _metrics(path) for path in self.kept()})
        for path in self.kept()[: -self.num_last]:
            if path not in (best, lowest):
                self._delete(path)

    def drop_after(self, path: Path) -> None:
        """Delete every checkpoint that is newer than this one."""
        for newer in self.kept():
            if newer.name > path.name:
                self._delete(newer)
        self.settle()

    def _delete(self, path: Path) -> None:
        pruned = path.with_name(f".pruned.{path.name}.{os.getpid()}")  # half of one never keeps a checkpoint's name
        path.rename(pruned)
        shutil.rmtree(pruned)


def name_at(kimg: float) -> str:
    """`000012.800kimg`: names sort as the run went."""
    return f"{kimg:010.3f}kimg"


def _lowest(measured: Mapping[Path, Mapping[str, float]]) -> Path | None:
    """The checkpoint of the lowest kernel distance, the newest of equal ones; None where none has one."""
    distances = {path: metrics[DISTANCE] for path, metrics in measured.items() if DISTANCE in metrics}
    return min(reversed(distances), key=distances.__getitem__) if distances else None


def _metrics(checkpoint: Path) -> dict[str, float]:
    """What was measured of a checkpoint; nothing where it is damaged: another one may still be continued."""
    try:
        return read_info(checkpoint).metrics
    except CheckpointError:
        return {}


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other) or one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
