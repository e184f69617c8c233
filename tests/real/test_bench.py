"""`./ganvas bench` over a server that it starts itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clients.bench.result import read_result

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def test_report_of_a_model_says_where_the_time_goes(model_repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clients.bench", "bench", "--model", "tiny-gan", "--out", str(tmp_path)]
    command += ["--repository", str(model_repository), "--rounds=1", "--seconds=0.5", "--warmup-s=0.2"]
    command += ["--scenario=closed", "--concurrency=2", "--images=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = next(tmp_path.glob("tiny-gan-*.json"))
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert path.with_suffix(".html").read_text().count("<svg") == 1  # distributions; a curve needs two points
    (subject,) = read_result(path).subjects
    rows = {row.load.target: row for row in subject.rows}
    assert set(rows) == {"direct", "service"}
    for row in rows.values():
        (measured,), (use,) = row.rounds, row.uses
        assert measured.num_failed == 0
        assert measured.num_checked > 0
        assert measured.is_verified
        assert use.batch_fill is not None
        assert use.batch_fill >= 1
        assert set(use.triton_ms) == {"queue", "input", "compute", "output"}
        assert use.cpu_share["triton"] > 0
        assert use.memory_mib["stub"] > 1
    assert rows["service"].rounds[0].timing_ms["inference"] > 0
