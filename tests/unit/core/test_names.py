"""Names of models."""

from __future__ import annotations

import pytest

from ganvas_core.names import check_model_name, companions, is_model_name, triton_name


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
