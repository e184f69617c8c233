"""The processes in which Triton's Python backend runs models: which there are, and how they are."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stub", "children_of", "read_state", "stubs_of"]


@dataclass(frozen=True, kw_only=True)
class Stub:
    """A process that runs one instance of one version of a Triton model."""

    pid: int
    model: str
    version: int


def stubs_of(triton_pid: int, models: Path, *, known: Collection[int] = ()) -> list[Stub]:
    """The living ones. A Triton whose backend needs no processes has none.

    Args:
        models: Triton's model repository: a stub has the path of its model among its arguments.
        known: processes that are left out.
    """
    found = []
    for pid in children_of(triton_pid):
        if pid in known:
            continue
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        for argument in arguments:
            path = Path(argument.decode(errors="replace"))
            if path.is_relative_to(models) and len(parts := path.relative_to(models).parts) > 2:
                found.append(Stub(pid=pid, model=parts[0], version=int(parts[1])))
                break
    return found


def children_of(pid: int) -> list[int]:
    """The processes that any thread of a process has started, dead ones that wait to be counted too."""
    found: list[int] = []
    # Plain calls: a Triton has a hundred threads, and is looked at several times a second for as long as it lives.
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    except OSError:
        return []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as children:  # noqa: PTH123
                found += map(int, children.read().split())
        except OSError:  # the thread has ended
            continue
    return found


def read_state(pid: int) -> str:
    """As the kernel writes it: "Z" dead and not counted yet, "T" stopped; empty: there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:  # noqa: PTH123
            return stat.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return ""
