"""The report of `./ganvas bench`: Markdown and JSON."""

from __future__ import annotations

import json
from pathlib import Path

from clients.bench.__main__ import BenchVerbOptions
from clients.bench.pipeline import BARE_BATCH_SIZES, Round
from clients.bench.report import save_report
from clients.bench.result import LoadResult


def test_report_is_written_as_markdown_and_json(tmp_path: Path) -> None:
    result = LoadResult(batch_size=2, elapsed_s=2.0, latencies_ms=(10.0, 20.0, 30.0))
    names = ("bare", "direct", "service", "bare_paced", "direct_paced", "service_paced")
    entry = Round(bare_by_batch_size=dict.fromkeys(BARE_BATCH_SIZES, result), **dict.fromkeys(names, result))
    markdown = save_report([entry], BenchVerbOptions(rounds=1, out=tmp_path), tmp_path)
    assert "| Triton direct, 64 callers of 1 | 3 | 20.00 | 29.80 |" in markdown.read_text()
    data = json.loads(markdown.with_suffix(".json").read_text())
    assert data["options"]["out"] == str(tmp_path)
    assert data["rounds"][0]["service"]["images_per_s"] == 3.0
