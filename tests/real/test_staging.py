"""What is served is what was certified: nothing that happens to the repository, or is asked of Triton, changes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient, InferenceServerException

from tests.support.serve import CHECKOUT, FREE_PORTS, Serve, images, running_serve, wait_gone, wait_restarted

pytestmark = [pytest.mark.triton, pytest.mark.slow]

EVIL = 'name: "evil"\nbackend: "python"\ninput [{name: "x" data_type: TYPE_FP32 dims: [1]}]\n'


@pytest.fixture(scope="module")
def repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("staged")
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def serve(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with running_serve(repository, tmp_path_factory.mktemp("serve")) as running:
        yield running


def post(serve: Serve, path: str, body: object) -> int:
    """The status of a request without the secret."""
    request = urllib.request.Request(f"http://{serve.ready['triton_http']}{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_overwritten_file_and_a_reload_change_nothing(serve: Serve, repository: Path) -> None:
    before = images(serve)
    path = repository / "plain-gan" / "1" / "model.onnx"
    other = (repository / "plain-gan-decode" / "1" / "model.onnx").read_bytes()
    original = path.read_bytes()
    try:
        path.write_bytes(other)
        assert post(serve, "/v2/repository/models/plain-gan/load", {}) == 403
        os.kill(serve.ready["service_pid"], signal.SIGKILL)  # the next one reads its files anew
        wait_restarted(serve, "service_pid")
        assert images(serve) == before
    finally:
        path.write_bytes(original)


def test_model_control_shared_memory_traces_and_logs_are_closed(serve: Serve, tmp_path: Path) -> None:
    code = {"parameters": {"config": EVIL, "file:1/model.py": "b3Blbign"}}
    for path, body in (
        ("/v2/repository/models/evil/load", code),
        ("/v2/repository/models/plain-gan/load", code),
        ("/v2/repository/models/plain-gan/unload", {}),
        ("/v2/repository/index", {}),
        ("/v2/systemsharedmemory/region/mine/register", {"key": "/x", "offset": 0, "byte_size": 1}),
        ("/v2/trace/setting", {"trace_level": ["TENSORS"], "trace_file": str(tmp_path / "trace")}),
        ("/v2/logging", {"log_file": str(tmp_path / "log")}),
    ):
        assert post(serve, path, body) == 403, path
    with InferenceServerClient(serve.ready["triton_grpc"]) as client:
        for refused in (
            lambda: client.load_model("plain-gan"),
            lambda: client.unload_model("plain-gan"),
            lambda: client.get_model_repository_index(),
            lambda: client.register_system_shared_memory("mine", "/x", 1),
            lambda: client.update_trace_settings(settings={"trace_rate": "1"}),
            lambda: client.update_log_settings({"log_verbose_level": 1}),
            lambda: client.get_inference_statistics("plain-gan"),
        ):
            with pytest.raises(InferenceServerException, match="restricted"):
                refused()  # type: ignore[no-untyped-call]
        assert client.is_server_live()
        assert client.is_model_ready("plain-gan")
        assert client.get_model_metadata("plain-gan").name == "plain-gan"
    assert len(images(serve)) == 8


def test_secret_of_the_run_is_in_no_command_line(serve: Serve) -> None:
    arguments = Path(f"/proc/{serve.ready['triton_pid']}/cmdline").read_text().split("\0")
    (restricted,) = [argument for argument in arguments if argument.startswith("--grpc-restricted-protocol")]
    assert set(restricted.rpartition("=")[2]) == {"*"}
    service = Path(f"/proc/{serve.ready['service_pid']}/cmdline").read_text()
    assert "secret" not in service


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b;c", "tü"])
def test_any_name_of_tmpdir_works(repository: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with running_serve(repository, folder) as serve:
        processes = serve.processes()
        assert len(images(serve)) == 8
        os.kill(serve.process.pid, signal.SIGTERM)
        code, _, errors = serve.end()
        assert code == 0
        assert "temporary files go to /tmp" in errors
        wait_gone(processes)


def test_second_serve_leaves_the_first_one_and_its_ready_file_alone(serve: Serve, repository: Path) -> None:
    command = [sys.executable, "-m", "serving", "serve", f"--repository={repository}", *FREE_PORTS]
    second = subprocess.run(
        [*command, f"--ready-file={serve.ready_file}"], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert second.returncode == 1
    assert (
        second.stderr == f"serve: --ready-file {serve.ready_file} belongs to another ./ganvas serve that is running.\n"
    )
    assert json.loads(serve.ready_file.read_text())["pid"] == serve.process.pid
    with running_serve(repository, serve.ready_file.parent, ready_file="second.json") as other:
        assert images(other) == images(serve)
    assert len(images(serve)) == 8


def test_killed_run_is_cleared_by_the_next_start(repository: Path, tmp_path: Path) -> None:
    with running_serve(repository, tmp_path) as killed:
        processes = killed.processes()
        killed.process.kill()
        killed.process.wait()
        wait_gone(processes)
        assert list(tmp_path.glob("ganvas-serve-*"))
        killed.ready_file.unlink()  # as the next start would, but a test must not take it for the next one's
    with running_serve(repository, tmp_path) as serve:
        (folder,) = tmp_path.glob("ganvas-serve-*")
        names = {path.name for path in Path("/dev/shm").glob("ganvas-serve-*")}
        assert any(name.startswith(f"{folder.name}-") for name in names)
        os.kill(serve.process.pid, signal.SIGTERM)
        assert serve.end()[0] == 0
    assert list(tmp_path.iterdir()) == []
    assert not list(Path("/dev/shm").glob(f"{folder.name}-*"))
