"""Log lines of the service: one event a line, `key=value` pairs, so that people and machines can both read them."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TextIO

from serving.options import LogLevel

__all__ = ["logfmt", "set_up_logging"]

MAX_VALUE = 200
"""Characters of one value."""


def logfmt(**fields: object) -> str:
    """`key=value` pairs; None is left out, text with anything but plain characters is quoted and escaped."""
    return " ".join(f"{key}={_value(value)}" for key, value in fields.items() if value is not None)


def set_up_logging(level: LogLevel, stream: TextIO | None = None) -> None:
    """Send the `ganvas` loggers to a stream.

    Args:
        stream: None: stderr, which `./ganvas serve` shows or keeps in service.log.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("ganvas")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    text = str(value)[:MAX_VALUE]
    plain = text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain else json.dumps(text)
