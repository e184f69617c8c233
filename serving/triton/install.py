"""Which Triton to run, and the folder of backends to run it with.

Looked for in this order: GANVAS_TRITONSERVER, tritonserver on PATH (NVIDIA's container), the one inside the
nvidia-pytriton wheel. An installation that has an onnxruntime backend is left alone; one that has none (the wheel's)
gets ours, `serving/backends/onnxruntime`, next to its own Python backend.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ganvas_core import telemetry
from serving.triton.errors import TritonNotFoundError
from serving.triton.libpython import find_libpython

__all__ = ["TritonInstall", "environment", "find_triton", "stage_backends"]

VARIABLE = "GANVAS_TRITONSERVER"
OUR_BACKEND = Path(__file__).resolve().parents[1] / "backends" / "onnxruntime"
STUB = "triton_python_backend_stub"


@dataclass(frozen=True, kw_only=True)
class TritonInstall:
    """One Triton on this machine."""

    kind: Literal["env", "path", "embedded"]
    """How it was found: GANVAS_TRITONSERVER, PATH, or the wheel."""
    executable: Path
    version: str | None = None
    """As its files say; None if they do not. A running one always says."""

    @property
    def root(self) -> Path:
        """The folder that holds bin/ and backends/."""
        return self.executable.resolve().parent.parent

    @property
    def has_onnxruntime(self) -> bool:
        """Whether it brings an onnxruntime backend of its own."""
        return (self.root / "backends" / "onnxruntime").is_dir()

    @property
    def stub(self) -> Path:
        """The Python backend's stub for the running Python: the wheel has one for each version, NVIDIA's image one."""
        minor = f"3.{sys.version_info.minor}"
        by_version = self.root / "python_backend_stubs" / minor / STUB
        return by_version if by_version.parent.parent.is_dir() else self.root / "backends" / "python" / STUB

    @property
    def libraries(self) -> Path | None:
        """The wheel's folder of shared libraries; None elsewhere."""
        folder = self.root.parent.parent / "nvidia_pytriton.libs"
        return folder if folder.is_dir() else None

    @property
    def bundles_libpython(self) -> bool:
        """Whether its libraries hold the running Python's; its stub is linked to that one then."""
        bundled = self.libraries.glob(f"libpython3-*.{sys.version_info.minor}.so*") if self.libraries else ()
        return any(bundled)


def find_triton(environ: Mapping[str, str] = os.environ) -> TritonInstall:
    """The Triton that would be used.

    Raises:
        TritonNotFoundError: GANVAS_TRITONSERVER names no executable, or there is no Triton at all.
    """
    if named := environ.get(VARIABLE):
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise TritonNotFoundError(f"{VARIABLE}={named} is no executable. Name a tritonserver, or unset {VARIABLE}.")
        return _install("env", Path(named))
    if found := shutil.which("tritonserver", path=environ.get("PATH")):
        return _install("path", Path(found))
    if (wheel := _wheel()) is not None:
        return _install("embedded", wheel)
    raise TritonNotFoundError(
        f"no Triton: {VARIABLE} is not set, there is no tritonserver on PATH, and {sys.executable} has no "
        "nvidia-pytriton.",
        remedy=f"{sys.executable} -m pip install nvidia-pytriton",
    )


def stage_backends(install: TritonInstall, folder: Path) -> Path:
    """The folder to give Triton as --backend-directory.

    An installation with an onnxruntime backend is used as it is. For any other, `folder` gets its Python backend and
    our onnxruntime backend. By copy: Triton rejects a backend's library that is a link.

    Args:
        folder: does not exist yet.
    Raises:
        TritonNotFoundError: the installation has no Python backend for the running Python.
    """
    if install.has_onnxruntime:
        return install.root / "backends"
    python_backend = install.root / "backends" / "python"
    if not install.stub.is_file() or not python_backend.is_dir():
        raise TritonNotFoundError(
            f"{install.executable} has neither an onnxruntime backend nor a Python backend for Python "
            f"3.{sys.version_info.minor}: {install.stub} is missing.",
            remedy=f"{sys.executable} -m pip install nvidia-pytriton, or use NVIDIA's full container image",
        )
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(python_backend, folder / "python", ignore=without_caches)
    shutil.copy2(install.stub, folder / "python" / STUB)
    shutil.copytree(OUR_BACKEND, folder / "onnxruntime", ignore=without_caches)
    return folder


def environment(install: TritonInstall, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables to start it with: for our backend, this virtual environment and its libraries.

    ONNX Runtime's telemetry is off, in any backend.

    Raises:
        LibpythonNotFoundError: our backend is needed and the running Python has no shared library.
    """
    result = dict(environ) | {telemetry.VARIABLE: "1"}
    if install.has_onnxruntime:
        return result
    folders = [install.libraries] if install.libraries else []
    if not install.bundles_libpython:
        folders.append(find_libpython().parent)
    inherited = [environ["LD_LIBRARY_PATH"]] if environ.get("LD_LIBRARY_PATH") else []
    result["LD_LIBRARY_PATH"] = os.pathsep.join([*map(str, folders), *inherited])
    # The stub's Python finds its packages as a Python started from PATH would: this one must come first.
    scripts = str(Path(sys.executable).parent)
    result["PATH"] = os.pathsep.join([scripts, environ["PATH"]] if environ.get("PATH") else [scripts])
    result.pop("PYTHONHOME", None)
    if sys.prefix != sys.base_prefix:
        result["VIRTUAL_ENV"] = sys.prefix
    return result


def _install(kind: Literal["env", "path", "embedded"], executable: Path) -> TritonInstall:
    install = TritonInstall(kind=kind, executable=executable.absolute())
    stated = install.root / "TRITON_VERSION"
    if not stated.is_file():
        return install
    return TritonInstall(kind=kind, executable=install.executable, version=stated.read_text(encoding="utf-8").strip())


def _wheel() -> Path | None:
    """The executable in the nvidia-pytriton wheel, which is looked for and not imported."""
    spec = importlib.util.find_spec("pytriton")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        executable = Path(folder) / "tritonserver" / "bin" / "tritonserver"
        if executable.is_file():
            return executable
    return None
