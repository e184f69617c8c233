"""A server with too much to do: what its service refused, its gateway refuses, and everything else is asked anew."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest

from ganvas_client import DeadlineExceededError, ResourceExhaustedError, Sampler
from ganvas_core.work import WORK
from tests.support.gateway import MODEL, channel, eventually, outcome, sampler, stream_request, trailer
from tests.support.patience import TooSlowError, in_time
from tests.support.serve import Serve, running_serve

pytestmark = [pytest.mark.triton, pytest.mark.slow]

COUNT, TIMEOUT_S = 8, 0.25
LARGE, NUM_LARGE = 256, 24
"""Calls that keep the queue longer than a part of TIMEOUT_S."""
BULK = ("x-ganvas-priority", "bulk")
BINDING_S, ASK_S = 0.1, 0.08
"""How long a refusal holds, and when one call asks anew."""


@pytest.fixture(scope="module")
def serve(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("serve")
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, folder / "models" / name)
    with running_serve(folder / "models", folder) as running:
        yield running


@pytest.fixture(scope="module")
def opened(serve: Serve) -> Iterator[grpc.Channel]:
    with channel(int(serve.ready["service"].rpartition(":")[2])) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def full(opened: grpc.Channel) -> Iterator[None]:
    """The queue, for all tests."""
    stop = Event()

    def caller() -> None:
        while not stop.is_set():
            with contextlib.suppress(grpc.RpcError):
                sampler(opened).Sample(stream_request(LARGE), timeout=60)

    with ThreadPoolExecutor(NUM_LARGE) as threads:
        for _ in range(NUM_LARGE):
            threads.submit(caller)
        try:
            yield
        finally:
            stop.set()


def num_refused(serve: Serve) -> dict[str, int]:
    """By the service and by the gateway."""
    with urllib.request.urlopen(f"http://{serve.ready['metrics']}/metrics", timeout=30) as reply:
        text = reply.read().decode()
    wanted = {
        "service": r'^ganvas_refused_total\{reason="wait"\} (\S+)$',
        "gateway": r'^envoy_ganvas_gateway_requests\{[^}]*refused="wait"[^}]*\} (\S+)$',
    }
    return {who: sum(int(float(it)) for it in re.findall(found, text, re.MULTILINE)) for who, found in wanted.items()}


def ask(opened: grpc.Channel, work: str | None = f"{MODEL}/{COUNT}", timeout_s: float = TIMEOUT_S) -> Any:
    """The refusal of one call."""
    metadata = [BULK] if work is None else [BULK, (WORK, work)]
    failure = outcome(lambda: sampler(opened).Sample(stream_request(COUNT), timeout=timeout_s, metadata=metadata))
    # The queue's callers are in this process: while it has to wait for a core, the queue is short, and answers late.
    if failure is None or failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise TooSlowError
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return failure


def refused_by(serve: Serve, *calls: Callable[[], Any]) -> dict[str, int]:
    """Who refuses calls that are made while the first one's refusal is binding, and how many of them."""

    def refuse_all() -> dict[str, int]:
        time.sleep(BINDING_S)
        before, begun_s, num_calls = num_refused(serve), time.monotonic(), 0
        try:
            for call in calls:
                call()
                num_calls += 1
            if time.monotonic() - begun_s >= ASK_S:
                raise TooSlowError
        finally:
            # The gateway counts a request when it has ended there, which may be after its answer has come.
            wanted = sum(before.values()) + num_calls
            eventually(lambda: sum(num_refused(serve).values()) >= wanted)
        after = num_refused(serve)
        found = {who: after[who] - before[who] for who in after}
        if sum(found.values()) != len(calls):
            raise TooSlowError("an earlier attempt was counted late")
        return found

    return in_time(refuse_all)


def test_the_gateway_refuses_what_the_service_has_just_refused(serve: Serve, opened: grpc.Channel) -> None:
    failures: list[Any] = []
    call = [lambda: failures.append(ask(opened))]
    assert refused_by(serve, *call * 3) == {"service": 1, "gateway": 2}
    first, *others = failures[-3:]
    for failure in others:
        assert (
            50
            <= int(trailer(failure, "grpc-retry-pushback-ms") or 0)
            <= int(trailer(first, "grpc-retry-pushback-ms") or 0)
        )
        assert failure.details().startswith("busy: the work would wait ")
        assert failure.details().partition("Retry")[0] == first.details().partition("Retry")[0]
    assert refused_by(serve, *call) == {"service": 1, "gateway": 0}  # when it binds no more


@pytest.mark.parametrize(
    ("work", "timeout_s"),
    [(f"{MODEL}/{COUNT - 1}", TIMEOUT_S), (f"{MODEL}/{COUNT}", 1.2 * TIMEOUT_S), (None, TIMEOUT_S), ("?", TIMEOUT_S)],
    ids=["fewer images", "more time", "no word of it", "none that can be meant"],
)
def test_the_service_is_asked_about_another_call(
    serve: Serve, opened: grpc.Channel, work: str | None, timeout_s: float
) -> None:
    calls = (lambda: ask(opened), lambda: ask(opened, work, timeout_s))
    assert refused_by(serve, *calls) == {"service": 2, "gateway": 0}


def test_the_client_says_what_it_asks_for(serve: Serve) -> None:
    metadata = [BULK]
    with Sampler(serve.ready["service"], direct=False, metadata=lambda: metadata) as client:

        def call() -> None:
            try:
                client.sample(MODEL, range(COUNT), timeout_s=TIMEOUT_S)
            except ResourceExhaustedError as error:
                failure = error
            except DeadlineExceededError:
                raise TooSlowError from None
            else:
                raise TooSlowError
            assert "busy" in str(failure)
            assert (failure.retry_after_s or 0) >= 0.05

        assert refused_by(serve, *[call] * 2) == {"service": 1, "gateway": 1}
