"""The processes in which Triton's Python backend runs models: which there are, and how they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stub", "children_of", "read_state", "stubs_of"]


@dataclass(frozen=True, kw_only=True)
class Stub:
    """A process that runs one instance of one version of a Triton model."""

    pid: int
    model: str
    version: int


def stubs_of(triton_pid: int, models: Path) -> list[Stub]:
    """The living ones. A Triton whose backend needs no processes has none.

    Args:
        models: Triton's model repository: a stub has the path of its model among its arguments.
    """
    found = []
    for pid in children_of(triton_pid):
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
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, children.read_text().split())
        except OSError:  # the thread has ended
            continue
    return found


def read_state(pid: int) -> str:
    """As the kernel writes it: "Z" dead and not counted yet, "T" stopped; empty: there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
