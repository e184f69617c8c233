"""Names of models."""

from __future__ import annotations

from typing import get_args

import pytest

from ganvas_core.names import (
    DEFAULT_ADDRESS,
    DEFAULT_HOST,
    DEFAULT_PORT,
    Role,
    check_model_name,
    companions,
    is_model_name,
    triton_name,
)


@pytest.mark.parametrize("name", ["a", "0", "digits-gan", "a.b_c-d", "a" * 63, "decode", "my-decode-2"])
def test_model_may_have_this_name(name: str) -> None:
    check_model_name(name)
    assert is_model_name(name)


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "_a", "a" * 64, "a/b", "..", "a b", "a\n", "ä"])
def test_model_may_not_have_this_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be 1 to 63 of a-z, 0-9, '\.', '_' and '-'"):
        check_model_name(name)
    assert not is_model_name(name)


@pytest.mark.parametrize("suffix", ["-decode", "-encode"])
def test_companion_s_name_is_not_a_model_s(suffix: str) -> None:
    with pytest.raises(ValueError, match=f"must not end in {suffix}, which names a companion model; got"):
        check_model_name(f"cats{suffix}")
    assert not is_model_name(f"cats{suffix}")


def test_triton_model_of_a_role() -> None:
    assert triton_name("cats", "sample") == "cats"
    assert (triton_name("cats", "decode"), triton_name("cats", "encode")) == companions("cats")
    assert companions("cats") == ("cats-decode", "cats-encode")


def test_message_repeats_a_long_name_cut() -> None:
    with pytest.raises(ValueError, match=r"got 'A{79}\.$"):
        check_model_name("A" * 200)


def test_every_role_has_a_triton_model_of_its_own() -> None:
    roles: tuple[Role, ...] = get_args(Role)
    assert {triton_name("cats", role) for role in roles} == {"cats", *companions("cats")}


def test_default_address_is_reached_from_this_machine_alone() -> None:
    assert f"{DEFAULT_HOST}:{DEFAULT_PORT}" == DEFAULT_ADDRESS == "127.0.0.1:50051"
