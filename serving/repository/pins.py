"""Which version of a model an empty version means, where it is not the newest: one small file in the repository.

`./ganvas models pin` and `rollback` write it, and a running `serve` follows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ganvas_core.files import write_atomic
from serving.repository.reader import RepositoryError

__all__ = ["PINS_FILE", "not_kept", "read_pins", "remedy", "write_pins"]

PINS_FILE = "_pins.json"
"""No model can have this name."""


def read_pins(repository: Path) -> dict[str, int]:
    """Model name to version.

    Raises:
        RepositoryError: the file cannot be read or is not what `write_pins` writes.
    """
    path = repository / PINS_FILE
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # a RecursionError: nested too deeply
        raise RepositoryError(f"cannot read {path}: {error}. Mend it, or delete it to serve the newest.") from None
    if not isinstance(pins, dict) or not all(type(version) is int for version in pins.values()):
        raise RepositoryError(f"{path} must map model names to versions. Mend it, or delete it to serve the newest.")
    return pins


def not_kept(name: str, version: int, reason: str) -> str:
    """What to say of a model whose pinned version cannot be served, and what to do.

    Args:
        reason: why it cannot be.
    """
    return (
        f"{name} is pinned to version {version}, which cannot be served: {reason} An empty version gets UNAVAILABLE. "
        f"Remedy: {remedy(name)}."
    )


def remedy(name: str) -> str:
    """What to do about a pin that cannot be kept, short enough for a field of the log."""
    return (
        f"restore it, ./ganvas models pin {name} VERSION, ./ganvas models rollback {name} "
        f"or, for the newest, ./ganvas models pin {name}"
    )


def write_pins(repository: Path, pins: Mapping[str, int]) -> None:
    """Replace the file as a whole.

    Raises:
        OSError: it cannot be written.
    """
    write_atomic(repository / PINS_FILE, (json.dumps(dict(sorted(pins.items())), indent=2) + "\n").encode())
