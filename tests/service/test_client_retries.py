"""The client tries again: while the service is busy or away, and from where a stream broke off."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from ganvas_client import (
    CallCancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    Sampler,
    UnavailableError,
)
from serving.repository.reader import Repository
from tests.support.asking import THROUGH_THE_SERVICE, Ask
from tests.support.kserve import KServe
from tests.support.patience import TooSlowError, with_time
from tests.support.ports import free_port
from tests.support.scripted import DIGEST, Failure, Scripted, serving
from tests.support.service import LoopThread, running_service

AWAY = Failure()
BUSY = Failure(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="busy.", metadata=(("grpc-retry-pushback-ms", "30"),))
LIMITED = Failure(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="slow down.", metadata=(("retry-after", "0"),))


@pytest.fixture(params=list(THROUGH_THE_SERVICE.values()), ids=list(THROUGH_THE_SERVICE))
def asked(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


@pytest.mark.parametrize("method", ["sample", "sample_stream"])
@pytest.mark.parametrize("failures", [[AWAY] * 6, [BUSY] * 6, [LIMITED] * 3, [AWAY, BUSY, AWAY]])
def test_calls_are_repeated_while_the_service_is_busy_or_away(asked: Ask, method: str, failures: list[Failure]) -> None:
    handler = Scripted(failures=failures)
    with serving(handler) as address:
        assert [image.seed for image in asked(address, method, "m", 7)] == [7]
    assert handler.attempts == len(failures) + 1


def test_hint_of_the_service_is_waited_for() -> None:
    hint = Failure(code=BUSY.code, metadata=(("grpc-retry-pushback-ms", "400"),))
    with serving(Scripted(failures=[hint])) as address:
        start = time.monotonic()
        THROUGH_THE_SERVICE["sync"](address, "sample", "m", 7)
        assert time.monotonic() - start >= 0.4


@pytest.mark.parametrize("method", ["sample", "sample_stream", "walk"])
def test_call_gives_up_when_its_time_is_up(asked: Ask, method: str) -> None:
    handler = Scripted(failures=[AWAY], forever=True)

    def ask(timeout_s: float) -> None:
        before = handler.attempts
        try:
            asked(address, method, "m", [7, 8], timeout_s=timeout_s)
        except DeadlineExceededError:  # the last attempt had no time for an answer
            raise TooSlowError from None
        except UnavailableError:
            if handler.attempts - before < 3:
                raise TooSlowError from None
            raise

    with serving(handler) as address, pytest.raises(UnavailableError, match=r"^draining; try again later\.$"):
        with_time(ask, 0.7)


def test_hint_beyond_the_deadline_ends_the_call_at_once() -> None:
    late = Failure(code=BUSY.code, details="busy.", metadata=(("grpc-retry-pushback-ms", "90000"),))
    handler = Scripted(failures=[late], forever=True)
    with serving(handler) as address, pytest.raises(ResourceExhaustedError, match=r"^busy\.$") as caught:
        THROUGH_THE_SERVICE["sync"](address, "sample", "m", 7, timeout_s=60)
    assert caught.value.retry_after_s == 90
    assert handler.attempts == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhaustedError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgumentError),
        (grpc.StatusCode.INTERNAL, InternalError),
        (grpc.StatusCode.CANCELLED, CallCancelledError),
    ],
)
@pytest.mark.parametrize("method", ["sample", "sample_stream"])
def test_what_would_fail_again_is_not_repeated(
    asked: Ask, method: str, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    handler = Scripted(failures=[Failure(code=code, details="no.")], forever=True)
    with serving(handler) as address, pytest.raises(kind, match=r"no\.$"):
        asked(address, method, "m", 7)
    assert handler.attempts == 1


def test_deadline_says_what_went_wrong_before(breaking: tuple[Sampler, KServe], loop_thread: LoopThread) -> None:
    sampler, peer = breaking
    full = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    async def hold_what_comes_next() -> None:
        while not peer.batch_sizes and not over.is_set():
            await asyncio.sleep(0.005)
        await peer.hold()
        peer.failure = None

    def ask(timeout_s: float) -> None:
        over.clear()
        peer.batch_sizes.clear()
        peer.failure = full
        loop_thread.run(peer.release())
        held = thread.submit(loop_thread.run, hold_what_comes_next())
        try:
            sampler.sample("tiny-gan", 1, timeout_s=timeout_s)
        except (ResourceExhaustedError, DeadlineExceededError) as error:
            if "The attempt before" not in str(error):
                raise TooSlowError("there was no time for a second attempt") from None
            raise
        finally:
            over.set()
            held.result()

    over = threading.Event()
    message = r"within timeout_s [\d.]+\. The attempt before: the queue of model tiny-gan"
    with ThreadPoolExecutor(1) as thread, pytest.raises(DeadlineExceededError, match=message):
        with_time(ask, 1.0)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 6, 7])
@pytest.mark.parametrize("seeds", [range(100, 126), [5, 3, 9, 3, *range(50, 72)]], ids=["range", "list"])
@pytest.mark.parametrize("labels", [None, 4, range(26)], ids=["no labels", "one label", "labels"])
def test_stream_goes_on_with_what_is_missing(asked: Ask, after: int, seeds: Any, labels: Any) -> None:
    handler = Scripted(failures=[Failure(after=after), AWAY, Failure(after=2), BUSY])
    with serving(handler) as address:
        got = asked(address, "sample_stream", "m", seeds, labels=labels)
    images = {image.index: image for image in got}
    assert len(got) == len(images) == 26
    assert [images[index].seed for index in range(26)] == list(seeds)
    assert [images[index].bytes for index in range(26)] == [b"%d" % seed for seed in seeds]
    expected = [None] * 26 if labels is None else [4] * 26 if labels == 4 else list(labels)
    assert [images[index].label for index in range(26)] == expected
    first, *later = handler.requests
    assert (first.version, first.digest) == ("", "")
    assert all((entry.version, entry.digest) == ("3", DIGEST) for entry in later if after or entry is later[-1])


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_walk_goes_on_after_its_last_frame(asked: Ask, after: int) -> None:
    handler = Scripted(failures=[Failure(after=after), AWAY, Failure(after=1)])
    with serving(handler) as address:
        frames = asked(address, "walk", "m", [1, 2, 3], steps=12)
    assert [frame.index for frame in frames] == list(range(25))
    assert [frame.bytes for frame in frames] == [b"%d" % frame for frame in range(25)]
    assert handler.requests[-1].first_frame in (4 * after, 4 * after + 4)
    assert handler.requests[-1].digest == DIGEST


def test_stream_whose_images_are_all_there_has_not_failed(asked: Ask) -> None:
    handler = Scripted(failures=[Failure(after=99)])
    with serving(handler) as address:
        assert len(asked(address, "sample_stream", "m", range(20))) == 20
    assert handler.attempts == 1


@pytest.mark.parametrize("method", ["sample", "sample_stream", "walk"])
def test_reply_of_another_digest_than_the_pinned_one_is_an_error(asked: Ask, method: str) -> None:
    wrong = pytest.raises(FailedPreconditionError, match=r"digest eeee.* was asked for, and d1d1.* answered")
    with serving(Scripted()) as address, wrong:
        asked(address, method, "m", [7, 8], digest="e" * 64)


def test_stream_survives_a_restart_of_its_server(asked: Ask) -> None:
    first, second = Scripted(failures=[Failure(after=2)]), Scripted()
    port = free_port()
    with serving(first, port) as address, ThreadPoolExecutor(1) as thread:
        call = thread.submit(asked, address, "sample_stream", "m", range(40), timeout_s=60)
        while first.attempts < 1:
            time.sleep(0.01)
    with serving(second, port):
        assert sorted(image.index for image in call.result(60)) == list(range(40))


@pytest.fixture
def breaking(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[tuple[Sampler, KServe]]:
    """Our service over a Triton that the test can break."""
    with (
        running_service(loop_thread, repository, peer.address) as service,
        Sampler(service.address, direct=False) as sampler,
    ):
        sampler.models()
        yield sampler, peer


@pytest.mark.parametrize("method", ["sample_stream", "walk"])
def test_images_of_a_broken_stream_are_those_of_a_whole_one(breaking: tuple[Sampler, KServe], method: str) -> None:
    sampler, peer = breaking
    seeds: Any = range(300) if method == "sample_stream" else [1, 2, 3]
    options: dict[str, Any] = {} if method == "sample_stream" else {"steps": 100}
    whole = {image.index: image.bytes for image in getattr(sampler, method)("tiny-gan", seeds, **options)}
    got: list[Any] = []
    for image in getattr(sampler, method)("tiny-gan", seeds, **options):
        got.append(image)
        if len(got) in (10, 120):
            peer.failure = (grpc.StatusCode.UNAVAILABLE, "gone")
            threading.Timer(0.3, setattr, (peer, "failure", None)).start()
    assert len(got) == len(whole) > 200
    assert {image.index: image.bytes for image in got} == whole


def test_closing_a_sampler_ends_a_call_that_waits() -> None:
    late = Failure(code=BUSY.code, metadata=(("grpc-retry-pushback-ms", "20000"),))
    handler = Scripted(failures=[late])
    with serving(handler) as address, ThreadPoolExecutor(1) as thread:
        sampler = Sampler(address, direct=False)
        call = thread.submit(sampler.sample, "m", 7)
        while handler.attempts < 1:
            time.sleep(0.01)
        time.sleep(0.1)
        sampler.close()
        with pytest.raises(CallCancelledError, match="was closed before the call was done"):
            call.result(60)
