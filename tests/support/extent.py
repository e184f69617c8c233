"""How much of a table of models the tests export: CI has 20 minutes."""

from __future__ import annotations

import os

__all__ = ["ALL"]

ALL = "GANVAS_TEST_ALL" in os.environ
"""Set: every pair and size, some minutes more. Else those that differ in what they put into a graph."""
