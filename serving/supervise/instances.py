"""`instances: auto` of a configuration, as a number: one instance for every core that this process may use.

Each instance computes with the threads that its images were proven with, so that any number of them gives the same
bytes; more threads for one instance might not. Two processors of one core share its arithmetic units, and count as one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from ganvas_core.triton_keys import AUTO

__all__ = ["num_cores", "with_instances"]

CPUS = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container: microseconds of computing in a period, and the period; "max" for no limit."""


def with_instances(config_text: str, cores: int) -> str:
    """The text of a config.pbtxt with a number in the place of `auto`; any other text as it is.

    Args:
        cores: that the machine has for it.
    """
    if f'"{AUTO}"' not in config_text:
        return config_text
    try:
        config = text_format.Parse(config_text, triton.ModelConfig())
    except text_format.ParseError:
        return config_text  # Triton says what is wrong with it
    if config.parameters["instances"].string_value != AUTO:
        return config_text
    del config.parameters["instances"]
    threads = config.parameters["intra_op_thread_count"].string_value
    count = max(1, cores // max(1, int(threads) if threads.isdecimal() else 1))
    for group in config.instance_group:
        if group.kind == triton.ModelInstanceGroup.KIND_CPU:
            group.count = count
    return str(text_format.MessageToString(config))


def num_cores(cpus: Path = CPUS, quota: Path = QUOTA) -> int:
    """Cores that this process may use: those of its CPU affinity, within the quota of its container."""
    allowed = os.sched_getaffinity(0)
    cores = {_read(cpus / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in allowed}
    limit, _, period = _read(quota).partition(" ")
    if limit.isdecimal() and period.isdecimal():
        return max(1, min(len(cores), int(limit) // int(period)))
    return len(cores)


def _read(path: Path) -> str:
    """Without its newline; empty if there is no such file."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
