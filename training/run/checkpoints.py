"""The checkpoints of a run: OUT/checkpoints holds the last ones and the best, each whole and with its resume state.

OUT/checkpoint is the best one, for export: the same files by hard links.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ganvas_core.cli import UsageError
from ganvas_core.files import atomic_folder, clean_temporary
from training.run.checkpoint import INFO_NAME, CheckpointError, read_info

__all__ = ["CHECKPOINTS_NAME", "CHECKPOINT_NAME", "Checkpoints", "name_at"]

CHECKPOINT_NAME = "checkpoint"
CHECKPOINTS_NAME = "checkpoints"

CRITERIA = {"frechet_ratio": min, "coverage": max, "psnr_db": max}
"""What the best checkpoint is chosen by: the first of these that was measured, and whether low or high is good."""


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
        """The best by what was measured on held-out images; the newest one where nothing was measured."""
        measured = {path: _metrics(path) for path in self.kept()}
        for name, better in CRITERIA.items():
            values = {path: metrics[name] for path, metrics in measured.items() if name in metrics}
            if values:
                wanted = better(values.values())
                return [path for path, value in values.items() if value == wanted][-1]
        return self.newest()

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
        """Make OUT/checkpoint the best one, and delete what is neither among the last ones nor the best."""
        best = self.best()
        if best is None:
            return
        if not _same_file(best / INFO_NAME, self.exported / INFO_NAME):
            with atomic_folder(self.exported) as temporary:
                for path in best.iterdir():
                    _link(path, temporary / path.name)
        for path in self.kept()[: -self.num_last]:
            if path != best:
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
