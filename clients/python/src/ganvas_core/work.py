"""What a call asks for, said in its metadata, where a gateway reads it before the message has come."""

from __future__ import annotations

import re

__all__ = ["WORK", "work_of"]

WORK = "x-ganvas-work"
"""Metadata: MODEL/COUNT, between them the version and the digest if the call names them."""

_MODEL = re.compile(r"[A-Za-z0-9_./-]{1,180}")


def work_of(model: str, count: int, *, version: str = "", digest: str = "") -> tuple[tuple[str, str], ...]:
    """The metadata of a call for `count` images; none if its fields are wrong, which the service says better."""
    named = "/".join(filter(None, (model, version, digest)))
    if not (model and 0 < count < 10**9 and _MODEL.fullmatch(named)):
        return ()
    return ((WORK, f"{named}/{count}"),)
