"""Energy of this machine's processors by RAPL, and use and power of its first GPU by nvidia-smi, while a load runs."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gpu", "GpuWatch", "energy_j", "read_energy"]

RAPL = Path("/sys/class/powercap")
MOST_W = 500.0
"""Of a processor's package: no counter of less than its range at this power can have wrapped twice."""
INTERVAL_S = 1.0
TIMEOUT_S = 10.0
QUERY = "--query-gpu=name,utilization.gpu,memory.used,power.draw"
NUM_FIELDS = 4


def read_energy() -> dict[Path, int]:
    """The counter of each package, in microjoules; empty where the kernel does not tell."""
    found = {}
    for zone in RAPL.glob("intel-rapl:*"):
        if zone.name.count(":") > 1:
            continue  # a part of a package
        try:
            if (zone / "name").read_text().startswith("package"):
                found[zone] = int((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            continue
    return found


def energy_j(before: dict[Path, int], after: dict[Path, int], elapsed_s: float) -> float | None:
    """What all packages took between two readings; None: the kernel does not tell, or not of so long a time."""
    total_uj = 0
    for zone, counter in after.items():
        taken_uj = counter - before.get(zone, counter)
        try:
            range_uj = int((zone / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            range_uj = 0
        if elapsed_s * MOST_W * 1e6 > range_uj > 0 or (taken_uj < 0 and not range_uj):
            return None
        total_uj += taken_uj if taken_uj >= 0 else taken_uj + range_uj
    return total_uj / 1e6 if after else None


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Means over the samples of a load; None: the GPU does not tell."""

    name: str
    use_percent: float | None
    memory_mib: float | None
    power_w: float | None


class GpuWatch(threading.Thread):
    """Asks nvidia-smi once a second, from when it is made to `end`."""

    def __init__(self) -> None:
        super().__init__(name="gpu", daemon=True)
        self._program = shutil.which("nvidia-smi")
        self.samples: list[list[str]] = []
        self._over = threading.Event()
        if self._program is not None:
            self.start()

    def run(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self._sample()
        if not self.samples:  # a short load
            self._sample()

    def _sample(self) -> None:
        command = [str(self._program), "--id=0", QUERY, "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            return
        sample = done.stdout.strip().split(", ")
        if done.returncode == 0 and len(sample) == NUM_FIELDS:
            self.samples.append(sample)

    def stop(self) -> None:
        self._over.set()

    def end(self) -> Gpu | None:
        """None without a GPU."""
        self.stop()
        if self._program is not None:
            self.join()
        if not self.samples:
            return None
        use, memory, power = (_mean([sample[place] for sample in self.samples]) for place in (1, 2, 3))
        return Gpu(name=self.samples[0][0], use_percent=use, memory_mib=memory, power_w=power)


def _mean(values: Sequence[str]) -> float | None:
    """Of numbers; "[N/A]" is none."""
    numbers = []
    for value in values:
        try:
            numbers.append(float(value))
        except ValueError:
            continue
    return statistics.mean(numbers) if numbers else None
