"""Out of memory says which setting to lower."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.training import tiny_config
from training.run.folder import create
from training.run.memory import explain_memory_error

LIMITED = """
import resource, sys
import training.cli
from training.__main__ import main
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 500 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (size, size))
sys.argv = ["training", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB)."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_memory_error_names_what_to_lower(error: Exception) -> None:
    explained = explain_memory_error(error, tiny_config("dcgan", batch_size=64), device="cuda:1")
    assert explained is not None
    message = str(explained)
    assert message.startswith("out of memory on cuda:1 with batch_size 64 and images of 8x8x1.")
    assert "--set batch_size=32" in message
    assert "--set precision=bf16" in message
    assert "What was saved before is intact" in message


def test_other_errors_are_not_explained() -> None:
    assert explain_memory_error(RuntimeError("shape mismatch"), tiny_config("dcgan"), device="cpu") is None


@pytest.mark.slow
def test_train_that_runs_out_of_memory_ends_in_one_line(tmp_path: Path) -> None:
    """The kernel gives the process 500 MiB beyond what it has when it starts; the batch takes more."""
    create(tmp_path, tiny_config("dcgan", batch_size=60_000, total_kimg=600.0), overwrite=False)
    command = [sys.executable, "-c", LIMITED, "train", "digits-gan", "--out", str(tmp_path), "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("train: out of memory on cpu with batch_size 60000"), done.stderr
    assert "Traceback" not in done.stderr
