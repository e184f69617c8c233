"""What callers see when something fails behind the service, and which work is then not sent to Triton."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import TypeAdapter

from ganvas.v1 import sampler_pb2 as pb
from serving.options import ServeOptions
from serving.repository.reader import Repository, read_repository
from serving.service.inference import triton_client
from serving.service.inference.readiness import NothingToServeError
from tests.support.certificates import without_golden_posteriors
from tests.support.kserve import KServe
from tests.support.patience import TooSlowError, with_time
from tests.support.service import LoopThread, Service, failure_of, running_service, sample_request, wait_left

HELD_TIMEOUT_S = 60.0


@pytest.fixture
def service(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Service]:
    with running_service(loop_thread, repository, peer.address, max_calls=8, recovery_s=0.3) as service:
        yield service


async def start_task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(work)


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


def wait_for_health(service: Service, status: int) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=HELD_TIMEOUT_S)
    assert any(reply.status == status for reply in watch)
    watch.cancel()


def health_of(service: Service) -> int:
    stub = health_pb2_grpc.HealthStub(service.channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service="ganvas.v1.Sampler")).status)


def test_full_queue_says_when_to_retry(service: Service, peer: KServe) -> None:
    peer.failure = (grpc.StatusCode.UNAVAILABLE, "[request id: <id_unknown>] Exceeds maximum queue size")
    error = failure_of(lambda: service.stub.Sample(sample_request()))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "Retry in 100 ms" in error.details()
    assert ("grpc-retry-pushback-ms", "100") in [(item.key, item.value) for item in error.trailing_metadata()]


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Server is stopping, scheduler for model has stopped accepting new requests"),
        (grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'tiny-gan' version 1 is not at ready state"),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'tiny-gan' is not found"),
    ],
)
def test_triton_that_stops_or_loads_makes_calls_unavailable(
    service: Service, peer: KServe, code: grpc.StatusCode, details: str
) -> None:
    peer.failure = (code, details)
    error = failure_of(lambda: service.stub.Sample(sample_request(40)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "Try again later" in error.details()


def test_internal_error_shows_an_id_and_nothing_else(
    service: Service, peer: KServe, caplog: pytest.LogCaptureFixture
) -> None:
    peer.failure = (grpc.StatusCode.INTERNAL, "secret path /srv/models")
    error = failure_of(lambda: service.stub.Sample(sample_request()))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "/srv" not in error.details()
    error_id = error.details().split()[2].rstrip(":")
    ours = [record for record in caplog.records if record.name.startswith("ganvas")]
    (record,) = [record for record in ours if record.levelno == logging.ERROR]
    assert error_id in record.getMessage()
    assert "secret path" in str(record.exc_info)


def test_malformed_answer_of_triton_is_an_internal_error(
    service: Service, peer: KServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = peer._infer

    def without_pixels(request: Any) -> Any:
        response = infer(request)
        del response.raw_output_contents[:]
        return response

    monkeypatch.setattr(peer, "_infer", without_pixels)
    assert failure_of(lambda: service.stub.Sample(sample_request())).code() is grpc.StatusCode.INTERNAL


def test_requests_are_split_into_batches_that_triton_can_fill(service: Service, peer: KServe) -> None:
    peer.batch_sizes.clear()
    service.stub.Sample(sample_request(70))
    assert sorted(peer.batch_sizes) == [6, 16, 16, 16, 16]
    assert set(peer.versions) == {"1"}


def test_huge_request_keeps_only_a_few_batches_in_triton(
    service: Service, peer: KServe, loop_thread: LoopThread
) -> None:
    loop_thread.run(peer.hold())
    stream = service.stub.SampleStream(sample_request(2000))
    loop_thread.run(peer.wait_running(2))
    loop_thread.run(peer.release())
    assert sum(len(reply.images) for reply in stream) == 2000
    assert peer.most_running == 2


def test_deadline_goes_on_to_triton_and_ends_the_call(service: Service, peer: KServe, loop_thread: LoopThread) -> None:
    loop_thread.run(peer.hold())

    def ask(timeout_s: float) -> None:
        peer.timeouts_us.clear()
        error = failure_of(lambda: service.stub.Sample(sample_request(), timeout=timeout_s))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if not peer.timeouts_us:
            raise TooSlowError("the time was over before the batch was sent")
        assert 0 < peer.timeouts_us[0] <= 1.01e6 * timeout_s  # gRPC rounds what it sends up, by up to a hundredth

    with_time(ask, 0.3)
    loop_thread.run(peer.release())
    loop_thread.run(peer.wait_running(0))
    assert peer.cancelled == 0


def test_batch_that_never_ends_is_unavailable_when_the_caller_has_no_deadline(
    service: Service, peer: KServe, loop_thread: LoopThread
) -> None:
    loop_thread.run(peer.hold())
    service.server.triton.batch_timeout_s = 0.2
    error = failure_of(lambda: service.stub.Sample(sample_request()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "within 0.2 s" in error.details()


@pytest.mark.parametrize("method", ["Sample", "SampleStream", "Walk", "Encode"])
def test_batches_of_a_cancelled_call_end_by_themselves_inside_triton(
    service: Service, peer: KServe, loop_thread: LoopThread, method: str
) -> None:
    """Triton 2.51 crashes, or keeps a model for ever, when a request is cancelled at the wrong moment."""
    loop_thread.run(peer.hold())
    requests = {
        "Walk": pb.WalkRequest(model="tiny-gan", seeds=[1, 2, 3], steps=100),
        "Encode": pb.EncodeRequest(model="tiny-vae", images=[bytes(1024)] * 40),
    }
    request = requests.get(method, sample_request(200))
    call = getattr(service.stub, method)
    gone = call(request) if method in ("SampleStream", "Walk") else call.future(request)
    loop_thread.run(peer.wait_running(2))
    peer.batch_sizes.clear()
    gone.cancel()
    loop_thread.run(wait_left(service))  # else it might get its images before it is cancelled
    loop_thread.run(peer.release())
    loop_thread.run(peer.wait_running(0))
    loop_thread.run(service.server.calls.wait_idle())
    assert peer.cancelled == 0
    assert peer.batch_sizes == []
    assert service.server.dispatcher.in_flight() == 0


def test_callers_that_leave_do_not_fill_triton(
    service: Service, peer: KServe, loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_client, "LET_GO_S", 60.0)
    loop_thread.run(peer.hold())
    for _ in range(5):
        gone = service.stub.Sample.future(sample_request(200))
        loop_thread.run(peer.wait_running(2))
        gone.cancel()
    assert peer.most_running == 2
    loop_thread.run(peer.release())
    assert len(service.stub.Sample(sample_request(3), timeout=HELD_TIMEOUT_S).images) == 3


def test_failed_batch_ends_its_request(service: Service, peer: KServe, loop_thread: LoopThread) -> None:
    loop_thread.run(peer.hold())
    peer.batch_sizes.clear()
    call = service.stub.Sample.future(sample_request(200))
    loop_thread.run(peer.wait_running(2))
    peer.failure = (grpc.StatusCode.INTERNAL, "broken")
    loop_thread.run(peer.release())
    assert failure_of(call.result).code() is grpc.StatusCode.INTERNAL
    loop_thread.run(peer.wait_running(0))
    assert len(peer.batch_sizes) <= 4


def test_calls_over_the_limit_are_turned_away(service: Service, peer: KServe, loop_thread: LoopThread) -> None:
    loop_thread.run(peer.hold())
    held = [service.stub.Sample.future(sample_request()) for _ in range(4)]
    loop_thread.run(answering(service, 4))
    error = failure_of(lambda: service.stub.Sample(sample_request()))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4 calls of this caller" in error.details()
    others = [service.stub.Sample.future(sample_request(), metadata=[("x-ganvas-caller", name)]) for name in "aabb"]
    loop_thread.run(answering(service, 8))
    error = failure_of(lambda: service.stub.Sample(sample_request(), metadata=[("x-ganvas-caller", "c")]))
    assert "8 calls are being answered" in error.details()
    loop_thread.run(peer.release())
    assert all(len(call.result(HELD_TIMEOUT_S).images) == 1 for call in held + others)


async def answering(service: Service, count: int) -> None:
    """Return once so many calls are being answered."""
    while len(service.server.calls) < count:
        await asyncio.sleep(0.01)


def test_service_waits_for_triton_and_comes_back_with_it(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    with running_service(loop_thread, repository, peer.address, start_s=60.0, recovery_s=0.3) as service:
        watching = loop_thread.run(start_task(service.server.watch()))
        assert health_of(service) == health_pb2.HealthCheckResponse.SERVING
        loop_thread.run(peer.stop())
        assert failure_of(lambda: service.stub.Sample(sample_request())).code() is grpc.StatusCode.UNAVAILABLE
        wait_for_health(service, health_pb2.HealthCheckResponse.NOT_SERVING)
        error = failure_of(lambda: service.stub.Sample(sample_request()))
        assert "waiting for Triton" in error.details()
        loop_thread.run(peer.start(peer.address))
        wait_for_health(service, health_pb2.HealthCheckResponse.SERVING)
        assert len(service.stub.Sample(sample_request(3)).images) == 3
        loop_thread.run(cancel(watching))


def test_version_with_other_golden_images_is_left_out(
    loop_thread: LoopThread, repository: Repository, peer: KServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = peer._infer

    def darker(request: Any) -> Any:
        response = infer(request)
        if request.model_name == "tiny-gan":
            response.raw_output_contents[0] = bytes(value // 2 for value in response.raw_output_contents[0])
        return response

    monkeypatch.setattr(peer, "_infer", darker)
    with running_service(loop_thread, repository, peer.address) as service:
        names = [model.name for model in service.stub.ListModels(pb.ListModelsRequest()).models]
        assert names == ["plain-gan", "tiny-vae"]
        (rejected,) = service.server.rejected
        assert rejected.name == "tiny-gan"
        assert "golden seed 0 differs" in rejected.reason


@pytest.mark.parametrize("output", [0, 1])
def test_version_with_other_golden_posteriors_is_left_out(
    loop_thread: LoopThread, repository: Repository, peer: KServe, monkeypatch: pytest.MonkeyPatch, output: int
) -> None:
    infer = peer._infer

    def shifted(request: Any) -> Any:
        response = infer(request)
        if request.model_name == "tiny-vae-encode":
            values = np.frombuffer(response.raw_output_contents[output], np.float32) + np.float32(1e-2)
            response.raw_output_contents[output] = values.tobytes()
        return response

    monkeypatch.setattr(peer, "_infer", shifted)
    with running_service(loop_thread, repository, peer.address) as service:
        names = [model.name for model in service.stub.ListModels(pb.ListModelsRequest()).models]
        assert names == ["plain-gan", "tiny-gan"]
        (rejected,) = service.server.rejected
        assert (rejected.name, rejected.transient) == ("tiny-vae", False)
        assert "the posterior of golden seed 0 differs by 0.01" in rejected.reason


def test_version_whose_posteriors_are_those_of_another_processor_is_equivalent(
    loop_thread: LoopThread, repository: Repository, peer: KServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = peer._infer

    def rounded(request: Any) -> Any:
        response = infer(request)
        if request.model_name == "tiny-vae-encode":
            values = np.frombuffer(response.raw_output_contents[0], np.float32) + np.float32(1e-6)
            response.raw_output_contents[0] = values.tobytes()
        return response

    monkeypatch.setattr(peer, "_infer", rounded)
    with running_service(loop_thread, repository, peer.address) as service:
        models = service.stub.ListModels(pb.ListModelsRequest()).models
        assert {model.name: model.golden for model in models} == {
            "plain-gan": "exact",
            "tiny-gan": "exact",
            "tiny-vae": "equivalent",
        }


def test_version_whose_encoder_is_of_an_earlier_release_is_served(
    loop_thread: LoopThread, model_repository: Path, peer: KServe, tmp_path: Path
) -> None:
    shutil.copytree(model_repository, tmp_path / "repository")
    without_golden_posteriors(tmp_path / "repository" / "tiny-vae-encode" / "1")
    with running_service(loop_thread, read_repository(tmp_path / "repository"), peer.address) as service:
        models = service.stub.ListModels(pb.ListModelsRequest()).models
        assert {model.name: (model.golden, model.can_encode) for model in models}["tiny-vae"] == ("exact", True)


def test_version_that_triton_cannot_run_is_left_out(
    loop_thread: LoopThread, repository: Repository, peer: KServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = peer._infer

    def broken(request: Any) -> Any:
        if request.model_name == "tiny-vae-decode":
            raise RuntimeError("no such kernel")
        return infer(request)

    monkeypatch.setattr(peer, "_infer", broken)
    with running_service(loop_thread, repository, peer.address) as service:
        (rejected,) = service.server.rejected
    assert rejected.name == "tiny-vae"
    assert "no such kernel" in rejected.reason


def test_model_that_triton_could_not_load_is_left_out_with_its_reason(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    peer.states["tiny-vae-encode"] = ("UNAVAILABLE", "Internal: no such operator\n\nAt:\n  model.py(95): initialize")
    with running_service(loop_thread, repository, peer.address) as service:
        names = [model.name for model in service.stub.ListModels(pb.ListModelsRequest()).models]
        (rejected,) = service.server.rejected
    assert names == ["plain-gan", "tiny-gan"]
    assert rejected.reason == "Triton did not load tiny-vae-encode: Internal: no such operator"


def test_nothing_to_serve_is_an_error_when_triton_never_gets_ready(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    peer.states["tiny-gan"] = ("LOADING", "")
    with running_service(loop_thread, repository, peer.address, get_ready=False, start_s=1.0) as service:
        assert health_of(service) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(NothingToServeError, match="not ready within 1 s"):
            loop_thread.run(service.server.get_ready())


def test_process_that_has_nothing_to_serve_says_so_without_a_traceback(repository: Repository, tmp_path: Path) -> None:
    options = ServeOptions(repository=repository.folder, start_s=1.0, log_level="error")
    versions = [[entry.name, entry.version, 1] for entry in repository.versions]
    opening = {"command": "serve", "secret": "s", "versions": versions, "defaults": {}, "out": []}
    command = [
        sys.executable,
        "-m",
        "serving.service.rpc.server",
        TypeAdapter(ServeOptions).dump_json(options).decode(),
    ]
    process = subprocess.Popen(
        [*command, "127.0.0.1:1", str(tmp_path / "s.sock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdin:
        process.stdin.write(json.dumps(opening) + "\n")
        process.stdin.flush()
        events = [json.loads(line) for line in process.stdout]
        errors = process.stderr.read()
    assert (process.returncode, events[-1]["event"]) == (1, "failed")
    assert events[-1]["message"].startswith("Triton at 127.0.0.1:1 was not ready within 1 s.")
    assert "Traceback" not in errors


def test_calls_are_unavailable_while_the_service_starts(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    with running_service(loop_thread, repository, peer.address, get_ready=False) as service:
        error = failure_of(lambda: service.stub.ListModels(pb.ListModelsRequest()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "starting" in error.details()
        loop_thread.run(service.server.get_ready())
        assert service.stub.ListModels(pb.ListModelsRequest()).models
