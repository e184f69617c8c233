from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from serving.triton.errors import TritonNotFoundError
from serving.triton.install import TritonInstall, environment, find_triton, stage_backends

MINOR = f"3.{sys.version_info.minor}"


def make(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """The executable of an installation as in NVIDIA's container."""
    make(tmp_path / "opt" / "backends" / "onnxruntime" / "libtriton_onnxruntime.so")
    make(tmp_path / "opt" / "TRITON_VERSION", "2.59.0\n")
    return make(tmp_path / "opt" / "bin" / "tritonserver")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The executable of an installation with a Python backend only."""
    for name in ("libtriton_python.so", "triton_python_backend_utils.py", "triton_python_backend_stub"):
        make(tmp_path / "bare" / "backends" / "python" / name, name)
    return make(tmp_path / "bare" / "bin" / "tritonserver")


def test_triton_named_by_the_variable_wins(container: Path, bare: Path) -> None:
    found = find_triton({"GANVAS_TRITONSERVER": str(bare), "PATH": str(container.parent)})
    assert (found.kind, found.executable, found.has_onnxruntime) == ("env", bare, False)


def test_triton_on_path_comes_before_the_wheel(container: Path) -> None:
    found = find_triton({"PATH": str(container.parent)})
    assert (found.kind, found.executable, found.version) == ("path", container, "2.59.0")


def test_triton_in_the_wheel_is_found_without_importing_it() -> None:
    found = find_triton({"PATH": ""})
    assert found.kind == "embedded"
    assert found.stub.parent.name == MINOR
    assert found.stub.is_file()
    assert found.libraries is not None
    assert not found.has_onnxruntime
    assert "pytriton" not in sys.modules


@pytest.mark.parametrize("named", ["missing", "."])
def test_triton_variable_that_names_no_executable_is_an_error(tmp_path: Path, container: Path, named: str) -> None:
    environ = {"GANVAS_TRITONSERVER": str(tmp_path / named), "PATH": str(container.parent)}
    with pytest.raises(TritonNotFoundError, match=r"GANVAS_TRITONSERVER=.* is no executable"):
        find_triton(environ)


def test_triton_missing_everywhere_names_every_place_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TritonNotFoundError, match=r"PATH.*nvidia-pytriton\. Remedy: .*pip install nvidia-pytriton"):
        find_triton({"PATH": ""})


def test_backends_of_an_installation_with_onnxruntime_stay_its_own(container: Path, tmp_path: Path) -> None:
    install = find_triton({"PATH": str(container.parent)})
    assert stage_backends(install, tmp_path / "staged") == tmp_path / "opt" / "backends"
    assert not (tmp_path / "staged").exists()
    assert environment(install, {"A": "b"}) == {"A": "b", "ORT_DISABLE_TELEMETRY": "1"}


def test_backends_staged_for_the_wheel_hold_python_and_ours(tmp_path: Path) -> None:
    staged = stage_backends(find_triton({"PATH": ""}), tmp_path / "staged")
    files = {str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()}
    assert {"python/libtriton_python.so", "python/triton_python_backend_utils.py", "onnxruntime/model.py"} <= files
    assert os.access(staged / "python" / "triton_python_backend_stub", os.X_OK)
    assert not any(path.is_symlink() for path in staged.rglob("*"))


def test_backends_take_the_installation_s_one_stub(bare: Path, tmp_path: Path) -> None:
    staged = stage_backends(TritonInstall(kind="env", executable=bare), tmp_path / "staged")
    assert (staged / "python" / "triton_python_backend_stub").read_text() == "triton_python_backend_stub"


def test_backends_say_what_is_missing_when_there_is_no_stub(bare: Path, tmp_path: Path) -> None:
    (bare.parent.parent / "backends" / "python" / "triton_python_backend_stub").unlink()
    with pytest.raises(TritonNotFoundError, match=rf"Python backend for Python {MINOR}.*stub is missing"):
        stage_backends(TritonInstall(kind="env", executable=bare), tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


def test_environment_leads_the_stub_to_this_virtual_environment() -> None:
    install = find_triton({"PATH": ""})
    environ = environment(install, {"PATH": "/elsewhere", "LD_LIBRARY_PATH": "/theirs", "PYTHONHOME": "/wrong"})
    assert environ["PATH"] == f"{Path(sys.executable).parent}:/elsewhere"
    assert environ["LD_LIBRARY_PATH"].startswith(f"{install.libraries}:")
    assert environ["LD_LIBRARY_PATH"].endswith(":/theirs")
    assert "PYTHONHOME" not in environ
    assert environ.get("VIRTUAL_ENV") == (sys.prefix if sys.prefix != sys.base_prefix else None)
