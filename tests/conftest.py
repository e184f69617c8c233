"""What every ring shares: a model repository made by the real export, and a real Triton that serves it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from serving.triton.process import TritonProcess

# Hypothesis fails an example that takes longer than 200 ms, and a test whose examples are made slowly: on a machine
# that others use too this says nothing of the code.
settings.register_profile("ganvas", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganvas")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Random weights are the same in every run: a test that needs luck would fail one day, far from here."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-gan, tiny-vae and plain-gan (tests/support/repository.py), made once for all processes of a run.

    Read-only by convention: a test that changes a file works on a copy.
    """
    from tests.support.repository import export_tiny_models

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "repository"
    with FileLock(base / "repository.lock"):
        if not folder.exists():
            export_tiny_models(base / "repository-new")
            (base / "repository-new").rename(folder)
    return folder


@pytest.fixture(scope="session")
def triton(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonProcess]:
    """A real Triton on free ports, ready, with every model of `model_repository`."""
    from serving.repository.reader import read_repository
    from serving.triton.process import TritonOptions, TritonProcess

    options = TritonOptions(
        repository=model_repository,
        models=read_repository(model_repository).triton_models(),
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        log_file=tmp_path_factory.mktemp("triton") / "triton.log",
    )
    process = TritonProcess(options)
    process.start()
    try:
        process.wait_ready(120)
        yield process
    finally:
        process.stop()
