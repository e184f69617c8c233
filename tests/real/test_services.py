"""`./ganvas serve --services 2`: calls are shared out, counted together, and go on when one process dies."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from ganvas_client import Sampler
from tests.support.gateway import eventually
from tests.support.serve import running_serve, wait_restarted

pytestmark = [pytest.mark.triton, pytest.mark.slow]

NUM_CALLS = 30


def test_two_services_share_the_calls(model_repository: Path, tmp_path: Path) -> None:
    with running_serve(model_repository, tmp_path, "--services=2", "--canary-s=0") as serve:
        assert len(set(serve.ready["service_pids"])) == 2

        def call(seed: int) -> bytes:
            with Sampler(serve.ready["service"], direct=False) as sampler:
                return sampler.sample("tiny-gan", [seed]).array.tobytes()

        first = [call(seed) for seed in range(NUM_CALLS)]

        def answered() -> list[float]:
            with urllib.request.urlopen(f"http://{serve.ready['metrics']}/metrics", timeout=60) as reply:
                text = reply.read().decode()
            found = re.findall(r'^ganvas_requests_total\{code="OK",method="Sample"\} (\S+)$', text, re.MULTILINE)
            return [float(value) for value in found]

        eventually(lambda: answered() == [NUM_CALLS])  # a call is counted when its last byte has left
        os.kill(serve.ready["service_pid"], signal.SIGKILL)
        assert [call(seed) for seed in range(NUM_CALLS)] == first
        wait_restarted(serve, "service_pid")
        assert call(0) == first[0]
