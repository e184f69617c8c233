"""Errors of a field repeat what a caller wrote, safely."""

from __future__ import annotations

import pytest

from ganvas_core.requests.errors import shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "'plain'"),
        ("a\n\x1b[2J", r"'a\n\x1b[2J'"),
        ("ü", r"'\xfc'"),
        (12, "12"),
        ("x" * 99, "'" + "x" * 59 + "…"),
    ],
)
def test_shown_escapes_and_cuts_what_a_caller_wrote(value: object, expected: str) -> None:
    assert shown(value) == expected
