"""A copy of the shared model repository that a test may damage, and ways to do so; a port for its servers."""

from __future__ import annotations

import dataclasses
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ganvas_core.certificate import Certificate, file_sha256


@pytest.fixture
def reserved() -> Iterator[int]:
    """A port that counts as free, as nobody listens there, and that the kernel gives to no other process meanwhile."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def repository(model_repository: Path, tmp_path: Path) -> Path:
    """tiny-gan, tiny-vae and plain-gan, version 1 each."""
    folder = tmp_path / "repository"
    shutil.copytree(model_repository, folder)
    return folder


@pytest.fixture
def add_version(repository: Path) -> Callable[[str, int], None]:
    """Publish version 1 of a model a second time, under another number."""

    def add(name: str, version: int) -> None:
        for part in (name, f"{name}-decode", f"{name}-encode"):
            if (repository / part).is_dir():
                folder = repository / part / str(version)
                shutil.copytree(repository / part / "1", folder)
                certificate = dataclasses.replace(Certificate.read(folder), version=version)
                (folder / "certificate.json").write_text(certificate.to_json())

    return add


@pytest.fixture
def recertify() -> Callable[[Path], None]:
    """Rewrite a certificate's hashes to match changed files, so that only `verify` can detect the change."""

    def rewrite(folder: Path) -> None:
        certificate = Certificate.read(folder)
        files = {
            name: dataclasses.replace(entry, sha256=file_sha256(folder / name))
            for name, entry in certificate.files.items()
        }
        attachments = {name: file_sha256(folder / name) for name in certificate.attachments}
        changed = dataclasses.replace(certificate, files=files, attachments=attachments)
        (folder / "certificate.json").write_text(changed.to_json())

    return rewrite
