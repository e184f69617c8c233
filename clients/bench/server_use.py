"""What a server took while it was measured: processor time and memory by part, and where Triton's time went."""

from __future__ import annotations

import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from clients.bench.here import is_here
from clients.bench.power import Gpu, GpuWatch, energy_j, read_energy
from clients.bench.subject import Subject
from clients.processes import parts_of, usage_of
from ganvas_core.cli import UsageError

__all__ = ["ServerUse", "Watch", "check_metrics"]

METRICS_TIMEOUT_S = 5.0
METRICS_WANTED = "Give HOST:PORT where Triton or ./ganvas serve tells its metrics, such as 127.0.0.1:8002."
COMPUTED = "ganvas_backend_batch_seconds"
DURATIONS = {
    "queue": "nv_inference_queue_duration_us",
    "input": "nv_inference_compute_input_duration_us",
    "compute": "nv_inference_compute_infer_duration_us",
    "output": "nv_inference_compute_output_duration_us",
}


@dataclass(kw_only=True)
class ServerUse:
    """Over one measurement, its warm-up included."""

    cpu_share: dict[str, float] = field(default_factory=dict)
    """Cores that each part of the server took."""
    cpu_ms_per_image: float | None = None
    """Of all parts."""
    memory_mib: dict[str, float] = field(default_factory=dict)
    """Of each part at the end; shared pages are counted once."""
    batch_fill: float | None = None
    """Images in one of Triton's batches, on average."""
    triton_ms: dict[str, float] = field(default_factory=dict)
    """Of one of Triton's requests, on average: queue, input, compute, output."""
    batch_ms: float | None = None
    """Computing of a batch on average, as its process says; a server that is none of ours does not."""
    energy_j_per_image: float | None = None
    """Of the processor's packages, where the machine tells."""
    gpu_j_per_image: float | None = None
    gpu: str | None = None
    """Use, memory and power of the first GPU, means over the load, where there is one."""


@dataclass(frozen=True, kw_only=True)
class _Counters:
    at_s: float
    cpu_s: dict[str, float]
    energy_uj: dict[Path, int]
    requests: int = 0
    images: int = 0
    batches: int = 0
    us: dict[str, float] = field(default_factory=dict)
    computed: int = 0
    compute_s: float = 0.0


class Watch:
    """From when it is made to `end`."""

    def __init__(self, subject: Subject, target: str) -> None:
        self._model = subject.model
        self._pid = subject.pid_of(target)
        self._metrics = subject.metrics_of(target)
        # What this machine takes is the server's, if it is here.
        self._is_here = self._pid is not None or is_here(subject.targets[target].address)
        self._gpu = GpuWatch() if self._is_here else None
        self._before = self._counters()

    def stop(self) -> None:
        """The load is over."""
        if self._gpu is not None:
            self._gpu.stop()

    def end(self, num_images: int) -> ServerUse:
        """
        Args:
            num_images: what was answered meanwhile, of a server that does not count.
        """
        before, after = self._before, self._counters()
        gpu = self._gpu.end() if self._gpu is not None else None
        elapsed_s = after.at_s - before.at_s
        cpu_s = {part: seconds - before.cpu_s.get(part, 0.0) for part, seconds in after.cpu_s.items()}
        images = after.images - before.images or num_images
        requests, batches = after.requests - before.requests, after.batches - before.batches
        use = ServerUse(cpu_share={part: round(seconds / elapsed_s, 3) for part, seconds in cpu_s.items()})
        if self._pid is not None and psutil.pid_exists(self._pid):
            use.memory_mib = usage_of(self._pid).pss_mib
        if images and cpu_s:
            use.cpu_ms_per_image = sum(cpu_s.values()) * 1e3 / images
        if images and (joules := energy_j(before.energy_uj, after.energy_uj, elapsed_s)) is not None:
            use.energy_j_per_image = joules / images
        if gpu is not None:
            if images and gpu.power_w is not None:
                use.gpu_j_per_image = gpu.power_w * elapsed_s / images
            use.gpu = _gpu_text(gpu, use.gpu_j_per_image)
        if batches:
            use.batch_fill = images / batches
        if computed := after.computed - before.computed:
            use.batch_ms = (after.compute_s - before.compute_s) * 1e3 / computed
        if requests:
            use.triton_ms = {name: (us - before.us.get(name, 0.0)) / 1e3 / requests for name, us in after.us.items()}
        return use

    def _counters(self) -> _Counters:
        told = self._triton()
        return _Counters(
            at_s=time.monotonic(),
            cpu_s=_cpu_s(self._pid),
            energy_uj=read_energy() if self._is_here else {},
            requests=int(told.get("nv_inference_request_success", 0)),
            images=int(told.get("nv_inference_count", 0)),
            batches=int(told.get("nv_inference_exec_count", 0)),
            us={part: told[name] for part, name in DURATIONS.items() if name in told},
            computed=int(told.get(COMPUTED + "_count", 0)),
            compute_s=told.get(COMPUTED + "_sum", 0.0),
        )

    def _triton(self) -> dict[str, float]:
        """Triton's counters of the model, over its versions; empty where nobody tells them."""
        if self._metrics is None:
            return {}
        try:
            with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=METRICS_TIMEOUT_S) as reply:
                text = reply.read().decode()
        except OSError:
            return {}
        found: dict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.labels.get("model") == self._model:
                    found[sample.name.removesuffix("_total")] += sample.value
        return found


def check_metrics(address: str) -> None:
    """See that Triton's counters are there.

    Raises:
        UsageError: they are not.
    """
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=METRICS_TIMEOUT_S) as reply:
            found = b"nv_inference" in reply.read()
    except (OSError, HTTPException) as error:
        raise UsageError(f"--metrics {address}: {error}. {METRICS_WANTED}") from None
    if not found:
        raise UsageError(f"--metrics {address} has no counters of Triton's. {METRICS_WANTED}")


def _cpu_s(pid: int | None) -> dict[str, float]:
    """Processor seconds so far, by part."""
    if pid is None:
        return {}
    found = {}
    try:
        supervisor = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return {}
    for part, processes in {**parts_of(pid), "supervisor": [supervisor]}.items():
        seconds = 0.0
        for process in processes:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            seconds += times.user + times.system
        found[part] = seconds
    return found


def _gpu_text(gpu: Gpu, j_per_image: float | None) -> str:
    told = [(gpu.use_percent, ".0f", "%"), (gpu.memory_mib, ".0f", "MiB"), (gpu.power_w, ".0f", "W")]
    told.append((j_per_image, ".3g", "J/image"))
    return ", ".join([gpu.name, *(f"{value:{digits}} {unit}" for value, digits, unit in told if value is not None)])
