"""Parts of `ganvas serve` that die come back, and nothing that was served before is served otherwise after."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from ganvas.v1 import sampler_pb2_grpc
from tests.support.serve import Serve, running_serve, wait_gone
from tests.support.service import CHANNEL_OPTIONS, sample_request

pytestmark = [pytest.mark.triton, pytest.mark.slow]

BACK_S = 30.0
"""Generous: a loaded machine is not a broken server."""


@pytest.fixture(scope="module")
def small_repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One unconditional model: quick to load."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


def images(serve: Serve, *, wait_s: float = BACK_S) -> list[bytes]:
    """Some images, as soon as the service gives them."""
    end = time.monotonic() + wait_s
    with grpc.insecure_channel(serve.ready["service"], options=CHANNEL_OPTIONS) as channel:
        stub: Any = sampler_pb2_grpc.SamplerStub(channel)  # type: ignore[no-untyped-call]
        while True:
            try:
                reply = stub.Sample(sample_request(8, model="plain-gan"), timeout=10, wait_for_ready=True)
                return [image.data for image in reply.images]
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                    raise
            time.sleep(0.05)


def wait_restarted(serve: Serve, victim: str) -> None:
    """Return once the ready file names another process."""
    end = time.monotonic() + BACK_S
    before = serve.ready[victim]
    while serve.ready[victim] == before:
        assert time.monotonic() < end
        time.sleep(0.05)
        serve.ready = json.loads(serve.ready_file.read_text(encoding="utf-8"))


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
