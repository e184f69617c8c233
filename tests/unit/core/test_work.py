"""What a call says of itself in its metadata: always sendable, or nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganvas_core.work import WORK, work_of

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "digits-gan/8"),
        ({"version": "3"}, "digits-gan/3/8"),
        ({"digest": DIGEST}, f"digits-gan/{DIGEST}/8"),
        ({"version": "3", "digest": DIGEST}, f"digits-gan/3/{DIGEST}/8"),
    ],
)
def test_work_is_the_model_as_it_is_named_and_the_count(fields: dict[str, str], said: str) -> None:
    assert work_of("digits-gan", 8, **fields) == ((WORK, said),)


@given(st.text(), st.integers(), st.text(), st.text())
def test_work_can_be_sent_whatever_the_fields_are(model: str, count: int, version: str, digest: str) -> None:
    for _, value in work_of(model, count, version=version, digest=digest):
        assert re.fullmatch(r"[A-Za-z0-9_./-]{1,180}/[1-9][0-9]{0,8}", value)


@pytest.mark.parametrize(
    ("model", "count"), [("", 8), ("gan", 0), ("gan", -1), ("two words", 8), ("gän", 8), ("g" * 181, 8)]
)
def test_wrong_fields_are_not_said(model: str, count: int) -> None:
    assert work_of(model, count) == ()
