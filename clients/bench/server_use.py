"""What a server took while it was measured: processor time and memory by part, and where Triton's time went."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from clients.bench.subject import Subject
from clients.processes import parts_of, usage_of

__all__ = ["ServerUse", "Watch"]

ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
METRICS_TIMEOUT_S = 5.0
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
    energy_j_per_image: float | None = None
    """Of the processor's package, where the machine tells."""
    gpu: str | None = None
    """Use, memory and power at the end, where there is one."""


@dataclass(frozen=True, kw_only=True)
class _Counters:
    at_s: float
    cpu_s: dict[str, float]
    energy_uj: int | None
    requests: int = 0
    images: int = 0
    batches: int = 0
    us: dict[str, float] = field(default_factory=dict)


class Watch:
    """From when it is made to `end`."""

    def __init__(self, subject: Subject, target: str) -> None:
        self._model = subject.model
        self._pid = subject.pid_of(target)
        self._metrics = subject.metrics_of(target)
        self._before = self._counters()

    def end(self, num_images: int) -> ServerUse:
        """
        Args:
            num_images: what was answered meanwhile, of a server that does not count.
        """
        before, after = self._before, self._counters()
        elapsed_s = after.at_s - before.at_s
        cpu_s = {part: seconds - before.cpu_s.get(part, 0.0) for part, seconds in after.cpu_s.items()}
        images = after.images - before.images or num_images
        requests, batches = after.requests - before.requests, after.batches - before.batches
        use = ServerUse(cpu_share={part: round(seconds / elapsed_s, 3) for part, seconds in cpu_s.items()}, gpu=_gpu())
        if self._pid is not None:
            use.memory_mib = usage_of(self._pid).pss_mib
        if images and cpu_s:
            use.cpu_ms_per_image = sum(cpu_s.values()) * 1e3 / images
        if images and after.energy_uj is not None and before.energy_uj is not None:
            use.energy_j_per_image = (after.energy_uj - before.energy_uj) / 1e6 / images
        if batches:
            use.batch_fill = images / batches
        if requests:
            use.triton_ms = {name: (us - before.us.get(name, 0.0)) / 1e3 / requests for name, us in after.us.items()}
        return use

    def _counters(self) -> _Counters:
        told = self._triton()
        return _Counters(
            at_s=time.monotonic(),
            cpu_s=_cpu_s(self._pid),
            energy_uj=_energy_uj(),
            requests=int(told.get("nv_inference_request_success", 0)),
            images=int(told.get("nv_inference_count", 0)),
            batches=int(told.get("nv_inference_exec_count", 0)),
            us={part: told[name] for part, name in DURATIONS.items() if name in told},
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


def _energy_uj() -> int | None:
    try:
        return int(ENERGY.read_text())
    except (OSError, ValueError):
        return None


def _gpu() -> str | None:
    """What nvidia-smi says of the first GPU; None without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = "--query-gpu=name,utilization.gpu,memory.used,power.draw"
    done = subprocess.run([program, query, "--format=csv,noheader"], capture_output=True, text=True)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else None
