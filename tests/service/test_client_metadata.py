"""What the client sends and gets besides requests and replies: keys, request ids, traces."""

from __future__ import annotations

import pytest

from ganvas_client import InvalidArgumentError, NotFoundError, Sampler
from ganvas_core.work import WORK
from tests.support.scripted import Failure, Scripted, serving

KEY = "gv-0123456789"


def test_key_travels_with_every_call() -> None:
    handler = Scripted()
    with serving(handler) as address, Sampler(address, api_key=KEY, direct=False) as sampler:
        sampler.sample("m", 7)
        list(sampler.sample_stream("m", 7))
    assert [sent["authorization"] for sent in handler.metadata] == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "umläut", " x"])
def test_key_that_cannot_be_sent_is_not_repeated_in_the_error(key: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Sampler(api_key=key)
    assert str(caught.value) == "api_key must be printable ASCII without spaces."


def test_key_is_in_no_representation() -> None:
    assert KEY not in repr(Sampler(api_key=KEY))


def test_metadata_of_the_application_is_asked_for_each_call() -> None:
    handler = Scripted()
    numbers = iter("12")

    def traceparent() -> list[tuple[str, str]]:
        return [("traceparent", f"trace-{next(numbers)}")]

    with serving(handler) as address, Sampler(address, metadata=traceparent, direct=False) as sampler:
        sampler.sample("m", 7)
        list(sampler.sample_stream("m", 7))
    assert [sent["traceparent"] for sent in handler.metadata] == ["trace-1", "trace-2"]


def test_every_attempt_says_what_it_asks_for() -> None:
    handler = Scripted(failures=[Failure(after=2)])
    with serving(handler) as address, Sampler(address, direct=False) as sampler:
        list(sampler.sample_stream("m", range(40)))
        sampler.sample("m", [1, 2, 3], version=2)
        list(sampler.walk("m", [1, 2], steps=4))
    resumed = f"m/3/{handler.digest}/32"  # of the version and digest that the first reply had
    assert [sent[WORK] for sent in handler.metadata] == ["m/40", resumed, "m/2/3", "m/5"]


def test_attempts_of_a_call_share_its_request_id() -> None:
    handler = Scripted(failures=[Failure(), Failure()])
    with serving(handler) as address, Sampler(address, direct=False) as sampler:
        sampler.sample("m", 7)
        sampler.sample("m", 7)
    ids = [sent["x-request-id"] for sent in handler.metadata]
    assert ids[0] == ids[1] == ids[2] != ids[3]


def test_request_id_is_what_the_service_says() -> None:
    with serving(Scripted()) as address, Sampler(address, direct=False) as sampler:
        assert sampler.sample("m", 7).info.request_id == "made-by-the-service"


def test_error_carries_the_request_id() -> None:
    handler = Scripted(failures=[Failure(code=NotFoundError.code)], forever=True)
    with serving(handler) as address, Sampler(address, direct=False) as sampler, pytest.raises(NotFoundError) as caught:
        sampler.sample("m", 7)
    assert caught.value.request_id == handler.metadata[0]["x-request-id"]
