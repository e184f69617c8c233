from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from clients.processes import Watcher, part_of, parts_of, usage_of


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("/opt/tritonserver/bin/tritonserver --model-repository=/tmp/a", "triton"),
        ("/tmp/b/python/triton_python_backend_stub /tmp/b/model.py ganvas-1", "stub"),
        ("/x/.venv/bin/envoy -c /tmp/gateway.yaml", "gateway"),
        ("/x/.venv/bin/python -m serving.service.rpc.server {}", "service"),
        ("/x/.venv/bin/python -m serving serve --port 0", "other"),
        ("/x/.venv/bin/python -I -S /x/serving/guard.py 12 9 /opt/tritonserver --grpc-port=1", "other"),
        ("sh -c tritonserver", "other"),
        ("", "other"),
    ],
)
def test_part_is_read_off_the_command_line(command: str, part: str) -> None:
    assert part_of(command.split()) == part


def test_usage_counts_children_with_their_parent() -> None:
    alone, end_s = usage_of(os.getpid()), time.monotonic() + 60
    code = "data = bytearray(b'x') * 100_000_000; input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        with Watcher(os.getpid(), interval_s=0.05) as watcher:
            while watcher.peak_mib() < alone.total_mib + 60:
                assert child.poll() is None
                assert time.monotonic() < end_s
                time.sleep(0.02)
        together = usage_of(os.getpid())
        assert together.num_descriptors > 0
        assert child.pid in {process.pid for process in parts_of(os.getpid())["other"]}
        assert len(watcher.curve()) == len(watcher.history)
    finally:
        assert child.stdin is not None
        child.kill()
        child.stdin.close()
        child.wait()
