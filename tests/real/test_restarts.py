"""Parts of `./ganvas serve` that die come back, and nothing that was served before is served otherwise after."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from ganvas.v1 import sampler_pb2_grpc
from serving.supervise.stubs import Stub, stubs_of
from tests.support.serve import BACK_S, Serve, images, running_serve, wait_gone, wait_restarted
from tests.support.service import CHANNEL_OPTIONS, sample_request

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@pytest.fixture(scope="module")
def small_repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One unconditional model: quick to load."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


@pytest.mark.parametrize("victim", ["gateway_pid", "service_pid", "triton_pid"])
def test_part_whose_process_is_stopped_is_started_again(small_repository: Path, tmp_path: Path, victim: str) -> None:
    with running_serve(small_repository, tmp_path) as serve:
        before = images(serve)
        os.kill(serve.ready[victim], signal.SIGSTOP)
        wait_restarted(serve, victim)
        assert images(serve) == before
        os.kill(serve.process.pid, signal.SIGTERM)
        code, _, errors = serve.end()
        assert code == 0
        assert "event=killed pid=" in errors


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


def stub(serve: Serve, model: str = "plain-gan") -> Stub:
    """A process in which Triton runs a model."""
    (folder,) = serve.ready_file.parent.glob("ganvas-serve-*")
    return next(stub for stub in stubs_of(serve.ready["triton_pid"], folder / "models") if stub.model == model)


def wait_replaced(serve: Serve, dead: Stub) -> None:
    """Return once another process runs the model."""
    end = time.monotonic() + BACK_S
    while True:
        assert time.monotonic() < end
        serve.ready = json.loads(serve.ready_file.read_text(encoding="utf-8"))
        with suppress(StopIteration):
            if stub(serve, dead.model).pid != dead.pid:
                return
        time.sleep(0.05)


@pytest.mark.parametrize("model", ["plain-gan", "plain-gan-decode"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_process_of_a_model_that_dies_or_stops_is_replaced(
    small_repository: Path, tmp_path: Path, number: signal.Signals, model: str
) -> None:
    with running_serve(small_repository, tmp_path) as serve:
        before, dead = images(serve), stub(serve, model)
        os.kill(dead.pid, number)
        wait_replaced(serve, dead)
        assert images(serve) == before
        os.kill(serve.process.pid, signal.SIGTERM)
        code, _, errors = serve.end()
        assert code == 0
        assert "event=taken-out model=plain-gan version=1" in errors
        assert "event=put-back model=plain-gan version=1" in errors


def test_no_call_fails_when_a_process_of_a_model_is_killed_under_load(small_repository: Path, tmp_path: Path) -> None:
    with running_serve(small_repository, tmp_path) as serve:
        before, dead = images(serve), stub(serve)
        killed = threading.Event()

        def ask(_: int) -> bool:
            same = images(serve) == before
            killed.set()
            return same

        with ThreadPoolExecutor(4) as callers:
            outcomes = callers.map(ask, range(400))
            killed.wait()
            os.kill(dead.pid, signal.SIGKILL)
            assert all(outcomes)
        wait_replaced(serve, dead)


def test_log_that_nobody_reads_holds_up_neither_calls_nor_the_stop(small_repository: Path, tmp_path: Path) -> None:
    # At debug every call has a line.
    with running_serve(small_repository, tmp_path, "--log-level=debug") as serve:
        processes = serve.processes()
        with grpc.insecure_channel(serve.ready["service"], options=CHANNEL_OPTIONS) as channel:
            service = sampler_pb2_grpc.SamplerStub(channel)  # type: ignore[no-untyped-call]
            for _ in range(1500):  # 735 lines filled the pipe
                service.Sample(sample_request(1, model="plain-gan"), timeout=BACK_S)
        os.kill(serve.process.pid, signal.SIGTERM)
        assert serve.process.wait(BACK_S) == 0
        wait_gone(processes)


def test_closed_terminal_ends_nothing(small_repository: Path, tmp_path: Path) -> None:
    with running_serve(small_repository, tmp_path) as serve:
        assert serve.process.stdout is not None
        assert serve.process.stderr is not None
        serve.process.stdout.close()
        serve.process.stderr.close()
        os.kill(serve.process.pid, signal.SIGHUP)
        assert len(images(serve)) == 8
        os.kill(serve.process.pid, signal.SIGTERM)
        assert serve.process.wait(BACK_S) == 0
