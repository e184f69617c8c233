"""Images where a user has them, before they are decoded and cut: a folder, an archive, arrays, a hub's data set."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from ganvas_core.cli import UsageError

__all__ = ["Collection", "check_label_names"]

MAX_LABEL_LENGTH = 100


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What every source has in common."""

    name: str
    source: str
    license: str
    names: Sequence[str]
    """What each image is called in messages."""
    read: Callable[[int], Image.Image]
    """Index → the image, opened and perhaps not yet decoded; called by several threads at once.
    Raises OSError, ValueError, SyntaxError or Image.DecompressionBombWarning where it is broken."""
    labels: Sequence[int] | None
    """Class of each image."""
    label_names: tuple[str, ...]
    held_out: Sequence[bool] | None = None
    """Which images the makers of the set keep for testing; None: there is no such part."""
    fingerprint: str
    """Another text as soon as an image, a label or a name is another."""
    framed: bool = False
    """Whether images a little smaller than the network's get a black frame: MNIST's 28 pixels in a network of 32."""
    num_ignored: int = 0
    """Files that are not images."""

    def __len__(self) -> int:
        return len(self.names)


def check_label_names(label_names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names, which end up in checkpoints, certificates and the service's answers.

    Raises:
        UsageError: a name is empty, too long, not printable, or could be taken for a path.
    """
    for name in label_names:
        printable = name.strip() and not any(unicodedata.category(c).startswith("C") for c in name)
        if not printable or len(name) > MAX_LABEL_LENGTH or name in (".", "..") or "/" in name or "\\" in name:
            raise UsageError(
                f"{where}: {name!r:.120} cannot be the name of a class: it must be 1 to {MAX_LABEL_LENGTH} "
                "printable characters without / and \\. Rename it."
            )
    return tuple(label_names)
