"""Logs may be cut in place while they are written, as docs/oncall.md tells logrotate to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gateway import eventually
from tests.support.serve import images, running_serve

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def test_every_log_may_be_cut_in_place(model_repository: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with running_serve(model_repository, tmp_path, f"--log-dir={logs}", "--log-level=debug") as serve:
        images(serve)
        eventually(lambda: all((logs / name).stat().st_size for name in ("service.log", "gateway.log", "triton.log")))
        for path in logs.glob("*.log"):
            with path.open("r+b") as file:
                file.truncate(0)
        images(serve)
        eventually(lambda: all((logs / name).stat().st_size for name in ("service.log", "gateway.log")))
        # A writer that kept its place would leave a hole of zeros before it.
        for path in logs.glob("*.log"):
            assert b"\0" not in path.read_bytes(), path.name
