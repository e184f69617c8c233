"""A real Triton as a process: start, failures, and no leftovers after any kind of end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.triton.errors import TritonStartError
from serving.triton.install import TritonInstall, find_triton
from serving.triton.ports import port_problem
from serving.triton.process import TritonOptions, TritonProcess
from tests.support.triton import READY_S, add_model, client, identity_model, infer, running

pytestmark = pytest.mark.triton

CHECKOUT = Path(__file__).resolve().parents[2]
GONE_S = 90.0
X = np.ones((1, 3), np.float32)

OWNER = """
import sys, time
from pathlib import Path
from serving.triton.errors import TritonStartError
from serving.triton.install import TritonInstall
from serving.triton.process import TritonOptions, TritonProcess
repository = Path(sys.argv[1])
options = TritonOptions(repository=repository, models=("good",), grpc_port=0, http_port=0, metrics_port=0)
triton = TritonProcess(options)
triton.start()
triton.wait_ready(120)
print(triton.pid, triton.log_file.parent, flush=True)
time.sleep(600)
"""


@dataclass(frozen=True, kw_only=True)
class Wrapped(TritonInstall):
    """A Triton that is started by another program."""

    wrapped: TritonInstall

    @property
    def root(self) -> Path:
        return self.wrapped.root


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model good works; each of the others is broken in a different way."""
    folder = tmp_path_factory.mktemp("models")
    add_model(folder, "good", identity_model(), "instance_group [ { count: 1 kind: KIND_CPU } ]")
    add_model(folder, "torn", identity_model().SerializeToString()[:40], "")
    add_model(folder, "empty", None, "")
    add_model(folder, "wrong", identity_model(), 'parameters { key: "execution_mode" value { string_value: "7" } }')
    return folder


def options(repository: Path, **ports: Any) -> TritonOptions:
    free: dict[str, Any] = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    return TritonOptions(repository=repository, models=("good",), **{**free, **ports})


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


def regions(prefix: str) -> list[Path]:
    """Shared memory of a Triton, or of the Tritons that a process started."""
    return list(Path("/dev/shm").glob(f"{prefix}*"))


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
    with running(repository, ("good",)) as triton:
        folder, pids = triton.log_file.parent, [triton.pid, *stubs_of(triton.pid)]
        assert len(pids) > 1
        assert regions(triton._region)
    triton.stop()  # once more does no harm
    assert not any(map(is_running, pids))
    assert triton.poll() == 0
    assert not folder.exists()
    assert not regions(triton._region)
    assert port_problem("--triton-grpc-port", "127.0.0.1", triton.ports.grpc) is None


def test_triton_that_is_killed_takes_its_stubs_along(triton: TritonProcess) -> None:
    stubs = stubs_of(triton.pid)
    os.kill(triton.pid, signal.SIGKILL)
    wait_gone(triton.pid, *stubs)
    while (code := triton.poll()) is None:  # its own thread is just counting it
        time.sleep(0.01)
    assert code == -signal.SIGKILL


def test_triton_that_will_not_end_is_killed_with_its_stubs(triton: TritonProcess) -> None:
    stubs = stubs_of(triton.pid)
    os.kill(triton.pid, signal.SIGSTOP)
    triton.stop(grace_s=0.2)
    assert not is_running(triton.pid)
    wait_gone(*stubs)
    assert not regions(triton._region)


def test_triton_ends_when_the_process_that_started_it_is_killed(repository: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(repository)], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        stubs = stubs_of(int(pid))
        owner.kill()
    wait_gone(int(pid), *stubs)
    assert not regions(f"ganvas-{owner.pid}-")
    shutil.rmtree(folder)  # which a killed owner cannot do


def test_triton_says_which_option_s_port_is_taken(triton: TritonProcess, repository: Path) -> None:
    second = TritonProcess(options(repository, grpc_port=triton.ports.grpc))
    with pytest.raises(TritonStartError, match=f"^--triton-grpc-port {triton.ports.grpc} is in use on 127.0.0.1"):
        second.start()
    second.stop()


def test_triton_that_ends_early_gives_its_code_and_its_last_words(tmp_path: Path, repository: Path) -> None:
    executable = tmp_path / "bin" / "tritonserver"
    (tmp_path / "backends" / "onnxruntime").mkdir(parents=True)
    executable.parent.mkdir()
    executable.write_text("#!/bin/sh\necho the last words\nexit 3\n")
    executable.chmod(0o755)
    triton = TritonProcess(options(repository), TritonInstall(kind="env", executable=executable))
    triton.start()
    with pytest.raises(TritonStartError, match=r"ended with exit code 3 .* Its log ends:\nthe last words$"):
        triton.wait_ready(READY_S)
    triton.stop()


def test_triton_that_cannot_serve_is_an_error_at_once(tmp_path: Path, repository: Path) -> None:
    empty = tmp_path / "models"
    empty.mkdir()
    install = find_triton()
    # Before Triton looks, however late that is.
    executable = tmp_path / "tritonserver"
    executable.write_text(f'#!/bin/sh\nrmdir "{empty}"\nexec "{install.executable}" "$@"\n')
    executable.chmod(0o755)
    triton = TritonProcess(options(empty), Wrapped(kind="env", executable=executable, wrapped=install))
    triton.start()
    try:
        with pytest.raises(TritonStartError, match=r"cannot serve\. Its log ends:\n(.*\n)*.*failed to stat file"):
            triton.wait_ready(READY_S)
    finally:
        triton.stop()


def test_triton_without_a_repository_is_an_error_before_it_starts(tmp_path: Path) -> None:
    triton = TritonProcess(options(tmp_path / "missing"))
    with pytest.raises(TritonStartError, match="missing is not a folder"):
        triton.start()


def test_triton_that_takes_too_long_is_an_error(repository: Path) -> None:
    triton = TritonProcess(options(repository))
    triton.start()
    try:
        with pytest.raises(TritonStartError, match=r"was not ready within 0 s"):
            triton.wait_ready(0)
    finally:
        triton.stop(grace_s=0)
