"""Data sets that a package manager brings: `./ganvas data get NAME`. A new one is a file and a line in `sources`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ganvas_core.cli import UsageError
from ganvas_core.files import atomic_folder
from training.data.get.dicebear import get_dicebear, license_of, style_names
from training.data.get.emoji import get_emoji
from training.data.get.fashion import get_fashion
from training.data.get.record import Record, read_record, set_folder, verify

__all__ = ["DEFAULT_COUNT", "DEFAULT_SIZE", "Source", "get_set", "sources"]

DEFAULT_COUNT, DEFAULT_SIZE = 5000, 64
"""Of the sets that are drawn."""

OnProgress = Callable[[int, int], None]
"""Called with what is done and the whole, in bytes or images."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that can be got."""

    what: str
    license: Callable[[], str]
    """Its short name."""
    drawn: bool
    """Whether a program draws it here: any number of images, of any size, without the network."""
    get: Callable[[Path, int, int, OnProgress], Record]
    """(folder that is being made, number of images, their size, on_progress) → its record."""


def sources() -> Mapping[str, Source]:
    """Name → data set."""
    found = {
        "fashion": Source(
            what="70,000 grey photographs of clothes, 28x28, ten classes (Debian, 31 MB)",
            license=lambda: "MIT",
            drawn=False,
            get=lambda folder, count, size, on_progress: get_fashion(folder, on_progress),
        ),
        "emoji": Source(
            what="3,786 emoji, 64x64 RGB, ten groups (npm, 74 MB)",
            license=lambda: "Apache-2.0",
            drawn=False,
            get=lambda folder, count, size, on_progress: get_emoji(folder, on_progress),
        ),
    }
    return found | {style: _drawn(style) for style in style_names()}


def get_set(name: str, *, count: int, size: int, overwrite: bool, on_progress: OnProgress) -> tuple[Record, Path, bool]:
    """The record and folder of a set, and whether it was got now: it is kept where it is there already.

    Raises:
        UsageError: there is no such set, or what is there is damaged or of another count or size.
        UserError: it cannot be had.
    """
    known = sources()
    if name not in known:
        raise UsageError(
            f"data get: there is no {name!r:.60}. There are fashion, critters, emoji and more: ./ganvas data list."
        )
    folder = set_folder(name)
    if not overwrite and (record := read_record(folder)) is not None:
        verify(folder, record)
        if known[name].drawn and (record.num_images, record.size) != (count, size):
            raise UsageError(
                f"data get: {folder} holds {record.num_images} images of {record.size}x{record.size}, not {count} of "
                f"{size}x{size}. Add --overwrite to draw it again."
            )
        return record, folder, False
    if folder.exists() and read_record(folder) is None:
        raise UsageError(f"data get: {folder} exists and is not a data set of ours. Move it away, or set GANVAS_DATA.")
    with atomic_folder(folder) as temporary:
        record = known[name].get(temporary, count, size, on_progress)
    return record, folder, True


def _drawn(style: str) -> Source:
    def get(folder: Path, count: int, size: int, on_progress: OnProgress) -> Record:
        return get_dicebear(folder, style, num_images=count, size=size, on_progress=on_progress)

    what = "figures with eyes, mouths and horns" if style == "critters" else f"DiceBear's style {style}"
    return Source(what=f"{what}, drawn from seeds, RGB", license=lambda: license_of(style), drawn=True, get=get)
