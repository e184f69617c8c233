"""The service against a real Triton at its limits: a full queue, callers that leave, time that runs out, its death."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.interface import Arrays
from serving.repository.reader import Repository, read_repository
from serving.service.errors import BusyError, DeadlineError
from serving.service.inference.triton_client import Deadline, TritonClient
from serving.triton.process import TritonOptions, TritonProcess
from tests.support.gateway import eventually
from tests.support.service import LoopThread, Service, failure_of, running_service, sample_request

pytestmark = pytest.mark.triton

MODEL = "plain-gan"
QUEUE_SIZE = 2
TIMEOUT_S = 90.0


@pytest.fixture(scope="module")
def repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """plain-gan, with a queue of QUEUE_SIZE."""
    folder = tmp_path_factory.mktemp("limits")
    for name in (MODEL, f"{MODEL}-decode"):
        shutil.copytree(model_repository / name, folder / name)
    path = folder / MODEL / "config.pbtxt"
    config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    config.dynamic_batching.default_queue_policy.max_queue_size = QUEUE_SIZE
    path.write_text(text_format.MessageToString(config), encoding="utf-8")
    return read_repository(folder)


@pytest.fixture(scope="module")
def triton(repository: Repository) -> Iterator[TritonProcess]:
    """The models under this queue, on free ports."""
    options = TritonOptions(
        repository=repository.folder,
        models=repository.triton_models(),
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        strict_config=True,
    )
    with TritonProcess(options) as process:
        process.wait_ready(60)
        yield process


@pytest.fixture(scope="module")
def loop_thread() -> Iterator[LoopThread]:
    loop = LoopThread()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def service(loop_thread: LoopThread, repository: Repository, triton: TritonProcess) -> Iterator[Service]:
    with running_service(loop_thread, repository, f"127.0.0.1:{triton.ports.grpc}") as service:
        yield service


def num_inferred(triton: TritonProcess) -> int:
    """Images that Triton has made so far."""
    with InferenceServerClient(f"127.0.0.1:{triton.ports.grpc}") as client:
        return int(client.get_inference_statistics(MODEL).model_stats[0].inference_count)


def test_service_proves_its_models_on_a_real_triton(service: Service) -> None:
    (model,) = service.stub.ListModels(pb.ListModelsRequest()).models
    assert (model.name, model.golden) == (MODEL, "exact")


def test_service_never_sends_more_than_triton_may_queue(service: Service) -> None:
    def ask(_: int) -> int:
        return len(service.stub.Sample(sample_request(16, model=MODEL), timeout=TIMEOUT_S).images)

    with ThreadPoolExecutor(32) as callers:
        assert set(callers.map(ask, range(256))) == {16}


def test_stream_whose_caller_left_is_not_made(service: Service, triton: TritonProcess, loop_thread: LoopThread) -> None:
    before = num_inferred(triton)
    stream = service.stub.SampleStream(sample_request(65536, model=MODEL))
    next(stream)
    stream.cancel()
    loop_thread.run(service.server.calls.wait_idle())
    dispatcher = service.server.dispatcher
    eventually(lambda: dispatcher.waiting() == dispatcher.in_flight() == 0)
    assert num_inferred(triton) < before + 65536
    # And nothing more is sent: Triton answers this after everything before it.
    assert len(service.stub.Sample(sample_request(1, model=MODEL), timeout=TIMEOUT_S).images) == 1
    assert dispatcher.waiting() == dispatcher.in_flight() == 0
    assert num_inferred(triton) < before + 65536


def test_deadline_that_passes_in_triton_is_deadline_exceeded(triton: TritonProcess, loop_thread: LoopThread) -> None:
    async def infer_in_no_time() -> None:
        engine = TritonClient(f"127.0.0.1:{triton.ports.grpc}")
        inputs: Arrays = {"seed": np.zeros((16, 1), np.uint64), "truncation": np.ones((16, 1), np.float32)}
        seen: set[type] = set()
        try:
            for _ in range(20):  # a call may be answered in time
                calls = [engine.infer(MODEL, 1, inputs, ("image",), Deadline.after(0.0005)) for _ in range(QUEUE_SIZE)]
                seen |= {type(outcome) for outcome in await asyncio.gather(*calls, return_exceptions=True)}
                if DeadlineError in seen:
                    break
        finally:
            await engine.close()
        assert DeadlineError in seen <= {DeadlineError, BusyError, list}  # those that expired may still fill the queue

    loop_thread.run(infer_in_no_time())


def test_call_is_unavailable_when_triton_dies_in_the_middle(loop_thread: LoopThread, repository: Repository) -> None:
    options = TritonOptions(
        repository=repository.folder,
        models=repository.triton_models(),
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        strict_config=True,
    )
    with TritonProcess(options) as doomed:
        doomed.wait_ready(60)
        with running_service(loop_thread, repository, f"127.0.0.1:{doomed.ports.grpc}", recovery_s=2.0) as service:
            stream = service.stub.SampleStream(sample_request(65536, model=MODEL))
            next(stream)
            doomed.stop(0)
            assert failure_of(lambda: stream).code() is grpc.StatusCode.UNAVAILABLE
            error = failure_of(lambda: service.stub.Sample(sample_request(1, model=MODEL)))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "Triton is gone" in error.details()
