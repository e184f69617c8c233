"""`./ganvas serve` from start to end: a real Triton, the service, signals, and no leftovers."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from ganvas.v1 import sampler_pb2 as pb
from ganvas.v1 import sampler_pb2_grpc
from tests.support.gateway import ask, infer_json, infer_request, kserve, outcome
from tests.support.gateway import channel as gateway_channel
from tests.support.patience import TooSlowError, in_time
from tests.support.serve import BACK_S, Serve, running_serve, wait_gone
from tests.support.service import CHANNEL_OPTIONS, failure_of, sample_request

pytestmark = [pytest.mark.triton, pytest.mark.slow]

STREAM_COUNT = 6_000
NUM_CALLERS = 6


@pytest.fixture(scope="module")
def small_repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One unconditional model: quick to load."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


def stub_of(serve: Serve) -> tuple[grpc.Channel, Any]:
    channel = grpc.insecure_channel(serve.ready["service"], options=CHANNEL_OPTIONS)
    return channel, sampler_pb2_grpc.SamplerStub(channel)  # type: ignore[no-untyped-call]


def directly(serve: Serve, seeds: NDArray[np.uint64]) -> list[bytes]:
    """The same images from Triton itself."""
    inputs = [InferInput("seed", [len(seeds), 1], "UINT64"), InferInput("truncation", [len(seeds), 1], "FP32")]
    inputs[0].set_data_from_numpy(seeds[:, None])
    inputs[1].set_data_from_numpy(np.ones((len(seeds), 1), np.float32))
    with InferenceServerClient(serve.ready["triton_grpc"]) as client:
        images = client.infer("plain-gan", inputs).as_numpy("image")
    return [image.tobytes() for image in images]


def test_serve_finishes_accepted_work_when_it_is_told_to_stop(small_repository: Path, tmp_path: Path) -> None:
    with running_serve(small_repository, tmp_path, "--drain-s=120") as serve:
        processes = serve.processes()
        assert {serve.ready["pid"], serve.ready["service_pid"], serve.ready["triton_pid"]} <= {p for p, _ in processes}
        channel, stub = stub_of(serve)
        with channel:
            images = stub.Sample(sample_request(10, model="plain-gan", first=2**63)).images
            seeds = np.uint64(2**63) + np.arange(10, dtype=np.uint64)
            assert [image.data for image in images] == directly(serve, seeds)
            stream = stub.SampleStream(sample_request(STREAM_COUNT, model="plain-gan", first=2**63))
            received = len(next(stream).images)  # what is not read holds the stream open
            os.kill(serve.process.pid, signal.SIGTERM)
            assert wait_rejected(stub).code() is grpc.StatusCode.UNAVAILABLE
            received += sum(len(reply.images) for reply in stream)
        assert received == STREAM_COUNT
        code, output, errors = serve.end()
        assert code == 0
        assert "Ganvas is ready" in output
        assert serve.ready["service"] in output
        assert "Traceback" not in errors
        assert not serve.ready_file.exists()
        wait_gone(processes)


def test_direct_calls_are_turned_away_in_words_while_serve_stops_and_do_not_keep_it(
    small_repository: Path, tmp_path: Path
) -> None:
    """Callers that call again at once, whatever they hear."""
    answered = [threading.Semaphore(0) for _ in range(NUM_CALLERS)]
    heard: queue.Queue[tuple[object, str]] = queue.Queue()
    ended = threading.Event()
    with running_serve(small_repository, tmp_path, "--drain-s=600") as serve:
        port = int(serve.ready["service"].rpartition(":")[2])

        def fails(channel: grpc.Channel, number: int) -> tuple[object, str] | None:
            if number == 0:
                with suppress(OSError):  # serve has ended
                    status, _, body = ask(port, "POST", "/v2/models/plain-gan/infer", infer_json([number]))
                    return None if status == 200 else (status, body.decode())
            failure = outcome(lambda: kserve(channel).ModelInfer(infer_request([number]), timeout=30))
            return failure and (failure.code(), failure.details())

        def call(number: int) -> None:
            with gateway_channel(port) as channel:
                first = True
                while not ended.is_set():
                    if (failure := fails(channel, number)) is None:
                        answered[number].release()
                    elif first:
                        heard.put(failure)
                        first = False

        channel, stub = stub_of(serve)
        with channel, ThreadPoolExecutor(NUM_CALLERS) as pool:
            calls = [pool.submit(call, number) for number in range(NUM_CALLERS)]
            try:
                stream = stub.SampleStream(sample_request(65536, model="plain-gan", first=2**63))
                next(stream)  # what is not read holds the drain open until all have heard of it
                for caller in answered:
                    assert caller.acquire(timeout=BACK_S)
                serve.process.terminate()
                failures = {heard.get(timeout=BACK_S) for _ in calls}
                stream.cancel()
                code, _, _ = serve.end()
            finally:
                ended.set()
        for finished in calls:
            finished.result()
    words = "the server is stopping. Try again in a moment, or at another."
    assert code == 0
    assert failures == {(503, words), (grpc.StatusCode.UNAVAILABLE, words)}


def wait_rejected(stub: Any) -> Any:
    """The error of the first call that is rejected."""
    deadline = time.monotonic() + BACK_S
    while time.monotonic() < deadline:
        try:
            stub.Sample(sample_request(model="plain-gan", first=2**63))
        except grpc.RpcError as error:
            return error
    raise TimeoutError(f"every new call was accepted for {BACK_S:g} s")


def test_second_signal_cuts_the_drain_short(small_repository: Path, tmp_path: Path) -> None:
    with running_serve(small_repository, tmp_path, "--drain-s=600") as serve:
        processes = serve.processes()
        channel, stub = stub_of(serve)
        with channel:
            unread = stub.SampleStream(sample_request(65536, model="plain-gan", first=2**63))
            next(unread)
            os.kill(serve.process.pid, signal.SIGINT)
            assert read_until(serve, "stopping") is not None
            os.kill(serve.process.pid, signal.SIGINT)
            code, _, _ = serve.end()
            assert code == 0
            assert failure_of(lambda: unread).code() is grpc.StatusCode.UNAVAILABLE
        wait_gone(processes)


def read_until(serve: Serve, word: str) -> str | None:
    assert serve.process.stdout is not None
    return next((line for line in serve.process.stdout if word in line), None)


@pytest.mark.parametrize("option", ["--gateway", "--no-gateway"])
def test_a_slow_reader_is_cut_off_as_unavailable_when_the_time_is_up(
    small_repository: Path, tmp_path: Path, option: str
) -> None:
    with running_serve(small_repository, tmp_path, "--drain-s=2", option) as serve:
        processes = serve.processes()
        channel, stub = stub_of(serve)
        with channel:
            stream = stub.SampleStream(sample_request(1_000_000, model="plain-gan"))
            next(stream)
            os.kill(serve.process.pid, signal.SIGTERM)
            error = failure_of(lambda: slowly(stream))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        code, _, errors = serve.end()
        assert code == 0
        assert "Traceback" not in errors
        wait_gone(processes)


def slowly(stream: Any) -> None:
    """Read until it ends: slowly for longer than the server's time, then what lies here already."""
    fast_s = time.monotonic() + 8.0
    for _ in stream:
        if time.monotonic() < fast_s:
            time.sleep(0.3)


def test_ctrl_c_while_starting_leaves_nothing(small_repository: Path, tmp_path: Path) -> None:
    def stop_while_starting() -> None:
        with running_serve(small_repository, tmp_path, ready=False) as serve:
            assert read_until(serve, "starting") is not None
            processes = serve.processes()
            os.kill(serve.process.pid, signal.SIGINT)
            code, output, errors = serve.end()
            wait_gone(processes)
            assert "Traceback" not in errors
            if "Ganvas is ready" in output:
                raise TooSlowError("it was ready before the signal came")
            assert code == 130

    in_time(stop_while_starting)


def test_killed_supervisor_leaves_no_process(small_repository: Path, tmp_path: Path) -> None:
    with running_serve(small_repository, tmp_path) as serve:
        processes = serve.processes()
        assert len(processes) >= 3
        serve.process.kill()
        serve.process.wait()
        wait_gone(processes)


def test_tampered_version_is_rejected_on_both_paths(model_repository: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name in ("plain-gan", "plain-gan-decode", "tiny-gan", "tiny-gan-decode"):
        shutil.copytree(model_repository / name, repository / name)
    with (repository / "tiny-gan" / "1" / "model.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0tampered\0")
    with running_serve(repository, tmp_path) as serve:
        (rejected,) = serve.ready["rejected"]
        assert (rejected["name"], rejected["version"]) == ("tiny-gan", 1)
        assert "SHA-256" in rejected["reason"]
        channel, stub = stub_of(serve)
        with channel:
            names = [model.name for model in stub.ListModels(pb.ListModelsRequest()).models]
            error = failure_of(lambda: stub.Sample(sample_request(model="tiny-gan", first=2**63)))
        assert names == ["plain-gan"]
        assert error.code() is grpc.StatusCode.NOT_FOUND
        with InferenceServerClient(serve.ready["triton_grpc"]) as client:
            assert client.is_model_ready("plain-gan")
            assert not client.is_model_ready("tiny-gan")
        os.kill(serve.process.pid, signal.SIGTERM)
        code, output, _ = serve.end()
        assert code == 0
        assert "rejected" in output


@pytest.mark.parametrize("option", ["--port", "--triton-http-port"])
def test_port_in_use_is_one_line_that_names_it(small_repository: Path, tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running_serve(small_repository, tmp_path, f"{option}={port}", ready=False) as serve:
            processes = serve.processes()
            code, _, errors = serve.end()
        assert code == 1
        (line,) = [line for line in errors.splitlines() if line.startswith("serve: ")]
        assert option in line
        assert str(port) in line
        assert "Traceback" not in errors
        wait_gone(processes)
