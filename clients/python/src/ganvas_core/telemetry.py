"""Importing this turns off ONNX Runtime's telemetry, which its wheel has on: name look-ups, and a file in TMPDIR.

ONNX Runtime reads the variable once, when it is imported, so this comes first: each application package imports it in
its `__init__`. Processes that are started from here inherit it.
"""

from __future__ import annotations

import os

__all__ = ["VARIABLE"]

VARIABLE = "ORT_DISABLE_TELEMETRY"

os.environ[VARIABLE] = "1"
