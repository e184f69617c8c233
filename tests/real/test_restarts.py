"""Parts of `./ganvas serve` that die come back, and nothing that was served before is served otherwise after."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import grpc
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image, ImageOps

from ganvas.v1 import sampler_pb2 as pb
from ganvas.v1 import sampler_pb2_grpc
from serving.supervise.stubs import Stub, stubs_of
from tests.support.gateway import channel, eventually, infer_json, infer_request, kserve
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


@pytest.fixture(scope="module")
def vae_repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model with an encoder."""
    folder = tmp_path_factory.mktemp("vae")
    for name in ("tiny-vae", "tiny-vae-decode", "tiny-vae-encode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


def ask_posterior(serve: Serve) -> bytes:
    """What the encoder gives of an image of noise."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8).tobytes()
    with grpc.insecure_channel(serve.ready["service"], options=CHANNEL_OPTIONS) as channel:
        service = sampler_pb2_grpc.SamplerStub(channel)  # type: ignore[no-untyped-call]
        reply = service.Encode(pb.EncodeRequest(model="tiny-vae", images=[image]), timeout=BACK_S)
        return np.array([*reply.mean, *reply.logvar], np.float32).tobytes()


def posterior_when_back(serve: Serve) -> bytes:
    end = time.monotonic() + BACK_S
    while True:
        try:
            return ask_posterior(serve)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_process_of_an_encoder_that_dies_or_stops_is_replaced(
    vae_repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with running_serve(vae_repository, tmp_path) as serve:
        before, dead = ask_posterior(serve), stub(serve, "tiny-vae-encode")
        os.kill(dead.pid, number)
        wait_replaced(serve, dead)
        assert posterior_when_back(serve) == before
        os.kill(serve.process.pid, signal.SIGTERM)
        code, _, errors = serve.end()
        assert code == 0
        assert "event=taken-out model=tiny-vae version=1" in errors
        assert "event=put-back model=tiny-vae version=1" in errors


def figure(serve: Serve, name: str) -> float:
    """One of the metrics; its first series."""
    with urllib.request.urlopen(f"http://{serve.ready['metrics']}/metrics", timeout=10) as reply:
        found = re.search(rf"^{re.escape(name)}\S* (\S+)$", reply.read().decode(), re.M)
    assert found is not None
    return float(found[1])


def overwrite(file: BinaryIO, data: bytes) -> None:
    file.seek(0)
    file.write(data)
    file.truncate()
    file.flush()


def test_encoder_that_does_not_make_its_golden_posteriors_is_out_until_it_does(
    vae_repository: Path, tmp_path: Path
) -> None:
    served = 'nv_inference_request_success{model="tiny-vae-encode"'
    with running_serve(vae_repository, tmp_path, "--canary-s=0.2", f"--log-dir={tmp_path}") as serve:
        # A sound one is asked again and again, and passes.
        before, asked = ask_posterior(serve), figure(serve, served)
        eventually(lambda: figure(serve, served) >= asked + 10, BACK_S)
        assert figure(serve, "ganvas_canary_failures_total") == 0

        # Other images in the place of the golden ones have the effect of an encoder that answers wrongly: the
        # posterior is not the certificate's. It stays out, as the proof finds the file changed.
        (run,) = tmp_path.glob("ganvas-serve-*")
        golden = run / "models" / "tiny-vae-encode" / "1" / "golden.png"
        sound, other = golden.read_bytes(), io.BytesIO()
        with Image.open(golden) as image:
            ImageOps.invert(image).save(other, "PNG")
        log = tmp_path / "service.log"
        with golden.open("r+b") as file:  # held open: the file may be moved
            overwrite(file, other.getvalue())
            eventually(lambda: "event=still-out model=tiny-vae version=1" in log.read_text(), BACK_S)
            with pytest.raises(grpc.RpcError) as refused:
                ask_posterior(serve)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert figure(serve, "ganvas_canary_failures_total") >= 1
            overwrite(file, sound)
        assert posterior_when_back(serve) == before
        eventually(lambda: "event=put-back model=tiny-vae version=1" in log.read_text(), BACK_S)
        lines = log.read_text().splitlines()
        for event in ("event=canary model=tiny-vae-encode", "event=taken-out model=tiny-vae"):
            assert any(event in line and "the posterior of golden seed" in line for line in lines), event
        assert any("event=still-out" in line and "golden.png has SHA-256" in line for line in lines)


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


def with_other_weights(graph: bytes) -> bytes:
    """A graph of the same length that makes other images."""
    model = onnx.load_from_string(graph)
    for weights in model.graph.initializer:
        if len(weights.dims) == 4:
            weights.raw_data = (-numpy_helper.to_array(weights)).tobytes()
    other = bytes(model.SerializeToString())
    assert len(other) == len(graph)
    return other


def direct_answers(serve: Serve) -> list[str]:
    """What KServe calls get that name no version, and that name version 1: by gRPC, then by HTTP."""
    answers = []
    with channel(int(serve.ready["service"].rpartition(":")[2])) as opened:
        for version in ("", "1"):
            request = infer_request([5])
            request.model_version = version
            try:
                kserve(opened).ModelInfer(request, timeout=BACK_S)
                answers.append("OK")
            except grpc.RpcError as error:
                answers.append(error.code().name)
    for path in ("", "/versions/1"):
        url = f"http://{serve.ready['service']}/v2/models/plain-gan{path}/infer"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, infer_json([5])), timeout=BACK_S) as reply:
                answers.append(str(reply.status))
        except urllib.error.HTTPError as error:
            answers.append(str(error.code))
    return answers


def test_version_whose_images_are_wrong_answers_on_no_path_until_it_is_well(
    small_repository: Path, tmp_path: Path
) -> None:
    with running_serve(small_repository, tmp_path, f"--log-dir={tmp_path}") as serve:
        before, dead = images(serve), stub(serve)
        (path,) = tmp_path.glob("ganvas-serve-*/models/plain-gan/1/model.onnx")
        aside = path.parents[3] / "aside" / "plain-gan" / "1"
        sound = path.read_bytes()

        def num_tries() -> int:
            return (tmp_path / "service.log").read_text().count("event=still-out model=plain-gan")

        with path.open("r+b") as file:  # held open: the file is moved
            file.write(with_other_weights(sound))
            file.flush()
            os.kill(dead.pid, signal.SIGKILL)
            answers: list[str] = []

            def has_asked_between_two_tries() -> bool:
                tries, waits = num_tries(), aside.is_dir()
                if not waits or tries < 4 or tries % 3 == 0:  # the first tries are soon repeated; a third ends Triton
                    return False
                answers[:] = direct_answers(serve)
                return aside.is_dir() and num_tries() == tries

            eventually(has_asked_between_two_tries, 2 * BACK_S)
            assert answers == ["UNAVAILABLE", "UNAVAILABLE", "503", "503"]
            file.seek(0)
            file.write(sound)
        assert images(serve, wait_s=2 * BACK_S) == before
        assert direct_answers(serve) == ["OK", "OK", "200", "200"]


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
