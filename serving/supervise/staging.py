"""What Triton is given to load: a view of the model repository, by links, with only the versions that passed."""

from __future__ import annotations

from pathlib import Path

from serving.repository.reader import Repository

__all__ = ["stage"]


def stage(repository: Repository, folder: Path) -> None:
    """Link every checked version, with its model's configurations, into an empty folder.

    A version that was rejected is not there, so that it is not reachable through Triton directly either.
    """
    for version in repository.versions:
        for part in version.parts():
            source, target = (repository.folder / part.name).resolve(), folder / part.name
            if not target.exists():
                target.mkdir()
                _link(source, target, [entry.name for entry in source.iterdir() if not entry.name.isdecimal()])
            _link(source, target, [str(version.version)])


def _link(source: Path, target: Path, names: list[str]) -> None:
    for name in names:
        (target / name).symlink_to(source / name)
