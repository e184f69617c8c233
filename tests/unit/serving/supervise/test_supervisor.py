"""What `serve` refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from serving.options import ServeOptions
from serving.repository.pins import PINS_FILE
from serving.repository.reader import RepositoryError
from serving.supervise.supervisor import supervise


def test_serve_does_not_start_with_pins_that_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / PINS_FILE).write_text('{"tiny-gan": ', encoding="utf-8")
    with pytest.raises(RepositoryError, match=f"cannot read {tmp_path / PINS_FILE}.*Mend it, or delete it"):
        supervise(ServeOptions(repository=tmp_path), Console(quiet=True))
