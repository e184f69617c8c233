"""The whole product, started once: `./ganvas serve` over the model repository of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.local_server import LocalServer, local_server


@pytest.fixture(scope="session")
def served(model_repository: Path) -> Iterator[LocalServer]:
    """Service and Triton on free ports, ready. For tests that only ask."""
    with local_server(model_repository) as running:
        yield running
