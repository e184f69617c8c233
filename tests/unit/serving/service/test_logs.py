"""A log entry is one line, even with line breaks in a caller's text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.service.logs import logfmt


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"method": "Sample", "count": 16, "total_ms": 1.23456}, "method=Sample count=16 total_ms=1.23"),
        ({"model": None, "code": "OK"}, "code=OK"),
        ({"model": ""}, 'model=""'),
        ({"model": "a b"}, 'model="a b"'),
        ({"model": 'x"\ncode=OK'}, r'model="x\"\ncode=OK"'),
    ],
)
def test_logfmt_quotes_what_is_not_plain(fields: dict[str, object], line: str) -> None:
    assert logfmt(**fields) == line


@given(st.text(max_size=300))
def test_logfmt_is_one_printable_line_that_gives_the_value_back(text: str) -> None:
    line = logfmt(model=text)
    assert line.isascii()
    assert line.isprintable()
    value = line.removeprefix("model=")
    assert (json.loads(value) if value.startswith('"') else value) == text[:200]
