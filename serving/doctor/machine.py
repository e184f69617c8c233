"""What this machine has for serving, one finding at a time, each with the remedy where something is missing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serving.doctor.trial import IDENTITY
from serving.gateway.install import EnvoyMissingError, find_envoy
from serving.repository.reader import RepositoryError, list_versions
from serving.triton.errors import TritonError
from serving.triton.install import TritonInstall, find_triton
from serving.triton.libpython import find_libpython
from serving.triton.ports import port_problem

__all__ = [
    "Finding",
    "cuda_works",
    "find_disk",
    "find_edge_tools",
    "find_gateway",
    "find_gpu",
    "find_memory",
    "find_models",
    "find_onnxruntime",
    "find_ports",
    "find_python",
    "find_shared_memory",
    "find_shared_python",
    "find_tritonserver",
]

SUPPORTED = ((3, 11), (3, 13))
SHARED_MEMORY = Path("/dev/shm")
MIB = 2**20
LOW_DISK_MIB, LEAST_DISK_MIB = 1024, 64
LOW_SHM_MIB, LEAST_SHM_MIB = 128, 16
LOW_MEMORY_MIB = 1024
COMMAND_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    name: str
    status: Literal["ok", "warning", "missing"]
    """missing: `./ganvas serve` would not work on this machine."""
    detail: str
    remedy: str | None = None
    """A command, wherever one helps."""


def find_python() -> Finding:
    """The interpreter, and whether it is a virtual environment's."""
    detail = f"{platform.python_version()} at {sys.executable}"
    oldest, newest = ("{}.{}".format(*version) for version in SUPPORTED)
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        remedy = f"install Python {oldest} to {newest}, remove .venv and start ./ganvas again"
        return Finding(name="Python", status="missing", detail=f"{detail}; must be {oldest} to {newest}", remedy=remedy)
    if sys.prefix == sys.base_prefix:
        remedy = "start through ./ganvas, which makes .venv"
        return Finding(name="Python", status="warning", detail=f"{detail}, no virtual environment", remedy=remedy)
    return Finding(name="Python", status="ok", detail=f"{detail}, virtual environment")


def find_shared_python(install: TritonInstall | None) -> Finding:
    """The shared libpython, unless the Triton to be used needs none from here."""
    name = "shared libpython"
    if install is not None and install.has_onnxruntime:
        return Finding(name=name, status="ok", detail="not needed: this Triton has an onnxruntime backend")
    if install is not None and install.bundles_libpython:
        return Finding(name=name, status="ok", detail="in the nvidia-pytriton wheel")
    try:
        return Finding(name=name, status="ok", detail=str(find_libpython()))
    except TritonError as error:
        return Finding(name=name, status="missing", detail=error.problem, remedy=error.remedy)


def find_tritonserver() -> tuple[TritonInstall | None, Finding]:
    """Triton itself, found but not started."""
    try:
        install = find_triton()
    except TritonError as error:
        return None, Finding(name="Triton", status="missing", detail=error.problem, remedy=error.remedy)
    ways = {"env": "GANVAS_TRITONSERVER", "path": "PATH", "embedded": "the nvidia-pytriton wheel"}
    backend = "its own" if install.has_onnxruntime else "our"
    version = f"{install.version}, " if install.version else ""
    detail = f"{version}from {ways[install.kind]}, with {backend} onnxruntime backend: {install.executable}"
    return install, Finding(name="Triton", status="ok", detail=detail)


def find_gateway() -> Finding:
    """Envoy, found and asked for its version."""
    try:
        envoy = find_envoy()
        answer = subprocess.run([envoy, "--version"], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    except EnvoyMissingError as error:
        return Finding(name="Envoy", status="missing", detail=str(error), remedy=error.remedy)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            name="Envoy", status="missing", detail=f"it does not run: {error}", remedy=EnvoyMissingError.remedy
        )
    if answer.returncode != 0:
        words = " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
        return Finding(
            name="Envoy", status="missing", detail=f"it does not run: {words}", remedy=EnvoyMissingError.remedy
        )
    version = next((part for part in answer.stdout.split("/") if part[:1].isdigit() and part.count(".") == 2), "?")
    return Finding(name="Envoy", status="ok", detail=f"{version}: {envoy}")


def find_onnxruntime() -> Finding:
    """ONNX Runtime and its execution providers."""
    name = "ONNX Runtime"
    try:
        import onnxruntime as ort
    except ImportError as error:
        remedy = f"{sys.executable} -m pip install onnxruntime-gpu"
        return Finding(name=name, status="missing", detail=f"cannot be imported: {error}", remedy=remedy)
    providers = ", ".join(provider.removesuffix("ExecutionProvider") for provider in ort.get_available_providers())
    return Finding(name=name, status="ok", detail=f"{ort.__version__}, built for {providers}")


def find_gpu() -> Finding:
    """NVIDIA's GPUs, as nvidia-smi lists them, and whether ONNX Runtime can use one. None is fine."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    if shutil.which(query[0]) is None:
        return Finding(name="GPU", status="ok", detail="none (no nvidia-smi): models run on the CPU")
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        detail = f"nvidia-smi does not work, so models run on the CPU: {error}"
        return Finding(name="GPU", status="warning", detail=detail, remedy="nvidia-smi")
    detail = "; ".join(result.stdout.strip().splitlines())
    if not cuda_works():
        remedy = f"{sys.executable} -m pip install 'onnxruntime-gpu[cuda,cudnn]'"
        return Finding(
            name="GPU", status="warning", detail=f"{detail}; but ONNX Runtime cannot use CUDA here", remedy=remedy
        )
    return Finding(name="GPU", status="ok", detail=detail)


def cuda_works() -> bool:
    """Whether ONNX Runtime makes a session on the first GPU. Its fallback to the CPU, without an error, is off."""
    import onnxruntime as ort

    ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # the finding says it
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        ort.InferenceSession(IDENTITY, options, providers=["CUDAExecutionProvider"])
    except Exception:  # ONNX Runtime's exceptions have no base class of their own
        return False
    return True


def find_ports(wanted: Mapping[str, tuple[str, int]]) -> list[Finding]:
    """Whether each port can be listened on.

    Args:
        wanted: option of `./ganvas serve` to address and port.
    """
    findings = []
    for option, (host, port) in wanted.items():
        problem = port_problem(option, host, port)
        remedy = f"./ganvas serve {option} 0, or end what `ss -ltnp 'sport = :{port}'` shows" if problem else None
        detail = problem or (f"{port} is free on {host}" if port else f"a free one on {host}")
        status: Literal["ok", "missing"] = "missing" if problem else "ok"
        findings.append(Finding(name=option, status=status, detail=detail, remedy=remedy))
    return findings


def find_models(repository: Path) -> Finding:
    """Whether there is something to serve."""
    name = "models"
    try:
        found = sorted({model for model, _ in list_versions(repository)})
    except RepositoryError as error:
        found, problem = [], str(error)
    else:
        problem = f"{repository} has no exported model"
    if not found:
        return Finding(name=name, status="warning", detail=problem, remedy="./ganvas demo, or ./ganvas export")
    return Finding(name=name, status="ok", detail=f"{', '.join(found)} in {repository}")


def find_edge_tools() -> Finding:
    """What the tests of docs/edge/ run in. Nothing else needs it, so a lack is fine."""
    name, wanted = "browser tests", {"Node": ("node",), "Chromium": ("chromium", "google-chrome")}
    missing = [tool for tool, commands in wanted.items() if not any(map(shutil.which, commands))]
    if missing:
        detail = f"no {' and no '.join(missing)}: optional, tests/real/test_edge*.py are skipped"
        return Finding(name=name, status="ok", detail=detail)
    return Finding(name=name, status="ok", detail="Node and Chromium are here (optional)")


def find_disk(repository: Path) -> Finding:
    """Room where models are exported to."""
    folder = repository.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free // MIB
    return _check_capacity(
        "disk", f"{free} MiB free at {folder}", free, LOW_DISK_MIB, LEAST_DISK_MIB, f"make room under {folder}"
    )


def find_shared_memory() -> Finding:
    """/dev/shm, through which Triton and its stubs exchange tensors."""
    if not SHARED_MEMORY.is_dir():
        remedy = "sudo mount -t tmpfs -o size=1G tmpfs /dev/shm"
        return Finding(name="shared memory", status="missing", detail=f"there is no {SHARED_MEMORY}", remedy=remedy)
    usage = shutil.disk_usage(SHARED_MEMORY)
    detail = f"{usage.free // MIB} of {usage.total // MIB} MiB free at {SHARED_MEMORY}"
    remedy = "docker run --shm-size=1g …, or sudo mount -o remount,size=1G /dev/shm"
    return _check_capacity("shared memory", detail, usage.free // MIB, LOW_SHM_MIB, LEAST_SHM_MIB, remedy)


def find_memory() -> Finding:
    """Memory and cores."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    detail = f"{total} MiB of memory, {available} unused; {len(os.sched_getaffinity(0))} cores"
    return _check_capacity(
        "memory and cores", detail, total, LOW_MEMORY_MIB, 0, "close other programs, or use a larger machine"
    )


def _check_capacity(name: str, detail: str, size: int, low: int, least: int, remedy: str) -> Finding:
    if size < least:
        return Finding(name=name, status="missing", detail=f"{detail}; at least {least} MiB are needed", remedy=remedy)
    if size < low:
        return Finding(name=name, status="warning", detail=f"{detail}; {low} MiB are comfortable", remedy=remedy)
    return Finding(name=name, status="ok", detail=detail)
