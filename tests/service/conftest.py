"""The service over a KServe v2 peer that runs the exported models in bare ONNX Runtime."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.repository.reader import Repository, read_repository
from tests.support.kserve import KServe
from tests.support.service import LoopThread, Service, running_service


@pytest.fixture(scope="session")
def repository(model_repository: Path) -> Repository:
    return read_repository(model_repository)


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """One loop for every server: grpc.aio supports one loop in a process best."""
    loop = LoopThread()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def shared_service(loop_thread: LoopThread, repository: Repository) -> Iterator[Service]:
    """For tests that only ask."""
    peer = KServe(repository)
    with running_service(loop_thread, repository, loop_thread.run(peer.start())) as service:
        yield service
    loop_thread.run(peer.stop())


@pytest.fixture
def peer(loop_thread: LoopThread, repository: Repository) -> Iterator[KServe]:
    """A peer that this test may stop."""
    peer = KServe(repository)
    loop_thread.run(peer.start())
    yield peer
    loop_thread.run(peer.stop())


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[bytes, Path]:
    """The key of a self-signed certificate for 127.0.0.1, and the certificate's file."""
    key, file = tmp_path / "key.pem", tmp_path / "ca.pem"
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject]
    subprocess.run([*command, "-keyout", key, "-out", file], check=True, capture_output=True)
    return key.read_bytes(), file
