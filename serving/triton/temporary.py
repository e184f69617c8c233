"""Where temporary files can be, so that Triton can use them.

Triton starts its backend's processes through a shell and hands them paths, so that only plain names survive.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from serving.triton.errors import TritonStartError

__all__ = ["base_folder"]

OTHERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
MAX_LENGTH = 70
"""The name of a Unix socket, which a run keeps there too, has at most 107 bytes."""

_PLAIN = re.compile(r"[A-Za-z0-9_./+=:@,-]+")


def base_folder() -> tuple[Path, str | None]:
    """A folder for temporary files, and why that is not TMPDIR.

    Raises:
        TritonStartError: nowhere.
    """
    wanted = Path(os.environ.get("TMPDIR") or tempfile.gettempdir()).absolute()
    if not (problem := _problem(wanted)):
        return wanted, None
    for base in OTHERS:
        if not _problem(base):
            return base, f"TMPDIR {str(wanted)!r} {problem}; temporary files go to {base}"
    raise TritonStartError(f"TMPDIR {str(wanted)!r} {problem}. Set TMPDIR to a folder with a plain and short name.")


def _problem(base: Path) -> str | None:
    """What is wrong with a folder for temporary files."""
    if not base.is_dir():
        return "is not a folder"
    if not os.access(base, os.W_OK | os.X_OK):
        return "cannot be written"
    if not _PLAIN.fullmatch(str(base)):
        return "has characters that a shell or Triton's Python would not take as they are"
    if len(str(base)) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    return None
