"""A verb, run in this process as its command line would run it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

from ganvas_core.cli import run_verbs

__all__ = ["Result", "run"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How the verb ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


def run(verb: Callable[[Any], int | None], arguments: list[str], env: Mapping[str, str] | None = None) -> Result:
    """`./ganvas VERB ARGUMENTS`, with these variables added to the environment."""
    stdout, stderr = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    try:
        with mock.patch.dict(os.environ, env or {}), redirect_stdout(stdout), redirect_stderr(stderr):
            run_verbs(verb, arguments=[verb.__name__, *arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert isinstance(code, int)
    return Result(exit_code=code, stdout=_text(stdout), stderr=_text(stderr))


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
