"""A real Triton as a process: it starts, says what failed, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.triton import TritonOptions, TritonProcess, TritonStartError
from tests.support_triton import READY_S, add_model, client, identity_model, infer, running

pytestmark = pytest.mark.triton

CHECKOUT = Path(__file__).resolve().parents[2]
GONE_S = 30.0
X = np.ones((1, 3), np.float32)

OWNER = """
import sys, time
from pathlib import Path
from serving.triton import TritonOptions, TritonProcess
repository = Path(sys.argv[1])
options = TritonOptions(repository=repository, models=("good",), grpc_port=0, http_port=0, metrics_port=0)
triton = TritonProcess(options)
triton.start()
triton.wait_ready(60)
print(triton.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good works; the others are broken each in its way."""
    folder = tmp_path_factory.mktemp("models")
    add_model(folder, "good", identity_model(), "")
    add_model(folder, "torn", identity_model().SerializeToString()[:40], "")
    add_model(folder, "empty", None, "")
    add_model(folder, "wrong", identity_model(), 'parameters { key: "execution_mode" value { string_value: "7" } }')
    return folder


@pytest.fixture
def triton(repository: Path) -> Iterator[TritonProcess]:
    with running(repository, ("good",)) as process:
        yield process


def stubs_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def wait_gone(*pids: int) -> None:
    deadline = time.monotonic() + GONE_S
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if is_running(pid)]}"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def regions(pid: int) -> list[Path]:
    """Shared memory of the Tritons that a process started."""
    return list(Path("/dev/shm").glob(f"ganvas-{pid}-*"))


def test_triton_serves_the_good_model_and_says_what_is_wrong_with_each_bad_one(repository: Path) -> None:
    with running(repository, ("good", "torn", "empty", "wrong", "absent")) as triton, client(triton) as caller:
        assert np.array_equal(infer(caller, "good", {"x": X})["y"], X)
        reasons = {failure.name: failure.reason for failure in triton.failures}
        assert triton.version().count(".") == 2
    assert set(reasons) == {"torn", "empty", "wrong", "absent"}
    assert f"cannot load {repository}/torn/1/model.onnx: " in reasons["torn"]
    assert f"{repository}/empty/1/model.onnx" in reasons["empty"]
    assert "parameter execution_mode must be a whole number within [0, 1]; got '7'." in reasons["wrong"]
    assert reasons["absent"] == "it is not in the model repository"


def test_triton_is_alone_in_its_session_so_that_a_terminal_s_ctrl_c_misses_it(triton: TritonProcess) -> None:
    assert os.getsid(triton.pid) == triton.pid != os.getsid(0)
    assert all(os.getpgid(stub) == triton.pid for stub in stubs_of(triton.pid))


def test_triton_leaves_no_process_port_folder_or_shared_memory(repository: Path) -> None:
    triton = TritonProcess(
        TritonOptions(repository=repository, models=("good",), grpc_port=0, http_port=0, metrics_port=0)
    )
    triton.start()
    triton.wait_ready(READY_S)
    folder, pids = triton.log_file.parent, [triton.pid, *stubs_of(triton.pid)]
    assert len(pids) == 2
    assert regions(os.getpid())
    triton.stop()
    triton.stop()
    assert not any(map(is_running, pids))
    assert triton.poll() == 0
    assert not folder.exists()
    assert not regions(os.getpid())
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", triton.ports.grpc))


def test_triton_that_is_killed_takes_its_stubs_along(triton: TritonProcess) -> None:
    stubs = stubs_of(triton.pid)
    os.kill(triton.pid, signal.SIGKILL)
    wait_gone(triton.pid, *stubs)
    assert triton.poll() == -signal.SIGKILL


def test_triton_that_will_not_end_is_killed_with_its_stubs(triton: TritonProcess) -> None:
    stubs = stubs_of(triton.pid)
    os.kill(triton.pid, signal.SIGSTOP)
    triton.stop(grace_s=0.2)
    assert not is_running(triton.pid)
    wait_gone(*stubs)
    assert not regions(os.getpid())


def test_triton_ends_when_the_process_that_started_it_is_killed(repository: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(repository)], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        stubs = stubs_of(pid)
        owner.kill()
    wait_gone(pid, *stubs)
    assert not regions(owner.pid)
    for folder in Path("/tmp").glob("ganvas-triton-*"):  # a killed owner cannot clean up; leave the machine as it was
        if not any(str(folder) in path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")):
            shutil.rmtree(folder, ignore_errors=True)


def test_triton_says_which_option_s_port_is_taken(triton: TritonProcess, repository: Path) -> None:
    second = TritonProcess(
        TritonOptions(repository=repository, models=("good",), grpc_port=triton.ports.grpc, http_port=0, metrics_port=0)
    )
    with pytest.raises(TritonStartError, match=f"^--triton-grpc-port {triton.ports.grpc} is in use on 127.0.0.1"):
        second.start()
    assert second.options.log_file is None
    second.stop()


def test_triton_that_ends_early_gives_its_code_and_its_last_words(tmp_path: Path) -> None:
    triton = TritonProcess(
        TritonOptions(repository=tmp_path / "missing", models=(), grpc_port=0, http_port=0, metrics_port=0)
    )
    triton.start()
    try:
        with pytest.raises(TritonStartError, match=r"ended with exit code 1 before it was ready\. Its log ends:\n"):
            triton.wait_ready(READY_S)
        assert "missing" in triton.log_tail()
    finally:
        triton.stop()


def test_triton_that_takes_too_long_is_an_error(repository: Path) -> None:
    triton = TritonProcess(
        TritonOptions(repository=repository, models=("good",), grpc_port=0, http_port=0, metrics_port=0)
    )
    triton.start()
    try:
        with pytest.raises(TritonStartError, match=r"was not ready within 0 s"):
            triton.wait_ready(0)
    finally:
        triton.stop()
