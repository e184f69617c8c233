"""Parts of `ganvas serve` that die come back, and nothing that was served before is served otherwise after."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.support.serve import images, running_serve, wait_gone, wait_restarted

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@pytest.fixture(scope="module")
def small_repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One unconditional model: quick to load."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


@pytest.mark.parametrize(("victim", "name"), [("triton_pid", "Triton"), ("service_pid", "the sampling service")])
def test_part_that_is_killed_comes_back_where_it_was(
    small_repository: Path, tmp_path: Path, victim: str, name: str
) -> None:
    with running_serve(small_repository, tmp_path) as serve:
        before, ready = images(serve), serve.ready
        for _ in range(2):
            os.kill(serve.ready[victim], signal.SIGKILL)
            wait_restarted(serve, victim)
            assert images(serve) == before
        assert {key: serve.ready[key] for key in ("service", "triton_grpc", "pid")} == {
            key: ready[key] for key in ("service", "triton_grpc", "pid")
        }
        processes = serve.processes()
        os.kill(serve.process.pid, signal.SIGTERM)
        code, _, errors = serve.end()
        assert code == 0
        assert f"{name} ended: killed by SIGKILL. Restart 2" in errors
        assert f"{name} is back after" in errors
        assert "Traceback" not in errors
        wait_gone(processes)
