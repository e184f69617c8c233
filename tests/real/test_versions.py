"""Versions that come, go, are pinned and are refused while `./ganvas serve` answers calls: none of which fails."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import onnx
import pytest
from onnx import numpy_helper

from ganvas.v1 import sampler_pb2_grpc
from ganvas_core.certificate import Certificate, file_sha256
from serving.repository.pins import write_pins
from tests.support.gateway import channel, eventually, infer_json, infer_request, kserve
from tests.support.serve import BACK_S, Serve, running_serve
from tests.support.service import CHANNEL_OPTIONS, sample_request

pytestmark = [pytest.mark.triton, pytest.mark.slow]

NUM_SWAPS = 20
MODEL = "plain-gan"


@pytest.fixture
def repository(model_repository: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    for name in (MODEL, f"{MODEL}-decode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


def publish(repository: Path, version: int, change: Callable[[Path], None] = lambda _: None) -> None:
    """Version 1 again under another number, each Triton model by one rename, the sampler last."""
    for name in (f"{MODEL}-decode", MODEL):
        staged = repository.parent / f"{name}-{version}"
        shutil.copytree(repository / name / "1", staged)
        if name == MODEL:
            change(staged)
        certificate = dataclasses.replace(Certificate.read(staged), version=version)
        (staged / "certificate.json").write_text(certificate.to_json())
        staged.rename(repository / name / str(version))


def ask(serve: Serve, version: str = "") -> str:
    """The version that answers."""
    with grpc.insecure_channel(serve.ready["service"], options=CHANNEL_OPTIONS) as channel:
        stub = sampler_pb2_grpc.SamplerStub(channel)  # type: ignore[no-untyped-call]
        return str(stub.Sample(sample_request(4, model=MODEL, version=version), timeout=BACK_S).info.version)


def wait_version(serve: Serve, version: int) -> None:
    end = time.monotonic() + BACK_S
    while ask(serve) != str(version):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_no_call_fails_across_twenty_swaps(repository: Path, tmp_path: Path) -> None:
    options = ("--log-level=warning", "--drain-s=1")
    with running_serve(repository, tmp_path, *options) as serve:
        done = threading.Event()

        def call() -> int:
            count = 0
            while not done.is_set():
                ask(serve)
                count += 1
            return count

        with ThreadPoolExecutor(3) as callers:
            calls = [callers.submit(call) for _ in range(3)]
            try:
                for version in range(2, NUM_SWAPS + 2):
                    publish(repository, version)
                    wait_version(serve, version)
                    if version > 2:  # keep two: each version has processes of its own
                        for name in (MODEL, f"{MODEL}-decode"):
                            shutil.rmtree(repository / name / str(version - 1))
            finally:
                done.set()
            assert all(future.result() for future in calls)
        assert ask(serve, "1") == "1"


def test_version_is_pinned_and_named_while_serving(repository: Path, tmp_path: Path) -> None:
    with running_serve(repository, tmp_path) as serve:
        publish(repository, 2)
        wait_version(serve, 2)
        write_pins(repository, {MODEL: 1})
        wait_version(serve, 1)
        assert ask(serve, "2") == "2"
        write_pins(repository, {})
        wait_version(serve, 2)


def test_pin_does_not_wait_for_the_calls_of_a_version_that_left(repository: Path, tmp_path: Path) -> None:
    publish(repository, 2)
    with running_serve(repository, tmp_path, f"--log-dir={tmp_path}", "--drain-s=60") as serve:
        publish(repository, 3)
        wait_version(serve, 3)
        for name in (MODEL, f"{MODEL}-decode"):
            shutil.rmtree(repository / name / "1")
        eventually(lambda: "event=retired model=plain-gan version=1" in (tmp_path / "service.log").read_text(), BACK_S)
        write_pins(repository, {MODEL: 2})
        wait_version(serve, 2)


def certify_other_weights(staged: Path) -> None:
    """Files that match their certificate and do not make its golden images, or of an encoder their posteriors."""
    path = staged / "model.onnx"
    graph = onnx.load(path)
    for weights in graph.graph.initializer:
        if len(weights.dims) == 4:
            weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    path.write_bytes(graph.SerializeToString())
    certificate = Certificate.read(staged)
    files = {
        name: dataclasses.replace(entry, sha256=file_sha256(staged / name)) for name, entry in certificate.files.items()
    }
    (staged / "certificate.json").write_text(dataclasses.replace(certificate, files=files).to_json())


def test_version_whose_encoder_gives_other_posteriors_is_not_served(
    repository: Path, model_repository: Path, tmp_path: Path
) -> None:
    for name in ("tiny-vae", "tiny-vae-decode", "tiny-vae-encode"):
        shutil.copytree(model_repository / name, repository / name)
    certify_other_weights(repository / "tiny-vae-encode" / "1")
    with running_serve(repository, tmp_path) as serve:
        assert [model["name"] for model in serve.ready["models"]] == [MODEL]
        (rejected,) = serve.ready["rejected"]
        assert rejected["name"] == "tiny-vae"
        assert "the posterior of golden seed 0 differs by" in rejected["reason"]


def test_version_that_makes_other_images_is_refused_and_the_old_one_kept(repository: Path, tmp_path: Path) -> None:
    with running_serve(repository, tmp_path, f"--log-dir={tmp_path}") as serve:
        publish(repository, 2, certify_other_weights)
        end = time.monotonic() + BACK_S
        while "event=refused model=plain-gan version=2 kept=1" not in (tmp_path / "service.log").read_text():
            assert time.monotonic() < end
            assert ask(serve) == "1"
        assert ask(serve) == "1"


def test_damaged_pin_takes_the_default_out_and_a_restored_one_brings_it_back(repository: Path, tmp_path: Path) -> None:
    publish(repository, 2)
    write_pins(repository, {MODEL: 1})
    path = repository / MODEL / "1" / "model.onnx"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1])
    with running_serve(repository, tmp_path) as serve:
        assert [(entry["name"], entry["version"]) for entry in serve.ready["out"]] == [(MODEL, 1)]
        with pytest.raises(grpc.RpcError) as caught:
            ask(serve)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert ask(serve, "2") == "2"
        with urllib.request.urlopen(f"http://{serve.ready['metrics']}/metrics", timeout=BACK_S) as reply:
            text = reply.read().decode()
        assert f'ganvas_version_served{{model="{MODEL}",reason="pin not kept",version="1"}} 0.0' in text
        path.write_bytes(sound)
        end = time.monotonic() + BACK_S
        while True:
            try:
                assert ask(serve) == "1"
                break
            except grpc.RpcError:
                assert time.monotonic() < end
                time.sleep(0.1)


def test_direct_calls_follow_the_pin(repository: Path, tmp_path: Path) -> None:
    publish(repository, 2)
    write_pins(repository, {MODEL: 1})
    with (
        running_serve(repository, tmp_path) as serve,
        channel(int(serve.ready["service"].rpartition(":")[2])) as opened,
    ):

        def answering() -> tuple[str, str]:
            """The versions that answer by gRPC and by HTTP when none is named."""
            with urllib.request.urlopen(
                urllib.request.Request(f"http://{serve.ready['service']}/v2/models/{MODEL}/infer", infer_json([5]))
            ) as reply:
                head = json.loads(reply.read()[: int(reply.headers["Inference-Header-Content-Length"])])
            return kserve(opened).ModelInfer(infer_request([5]), timeout=BACK_S).model_version, head["model_version"]

        assert answering() == ("1", "1")
        write_pins(repository, {})
        eventually(lambda: answering() == ("2", "2"), BACK_S)
        with channel(int(serve.ready["triton_grpc"].rpartition(":")[2])) as direct:
            write_pins(repository, {MODEL: 1})
            eventually(lambda: answering() == ("1", "1"), BACK_S)
            assert kserve(direct).ModelInfer(infer_request([5])).model_version == "2"  # as docs/protocol.md says
