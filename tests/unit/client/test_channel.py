"""One channel for all threads that share a client, and what they are told when one of them closes it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from ganvas_client import CallCancelledError, Sampler
from ganvas_client.transport import Line

NOBODY = "127.0.0.1:1"


def test_threads_that_call_first_make_one_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    insecure_channel = grpc.insecure_channel

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.05)  # the others come meanwhile
        made.append(insecure_channel(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(grpc, "insecure_channel", slow)
    start = threading.Barrier(8)
    with Sampler(NOBODY) as sampler, ThreadPoolExecutor(8) as threads:

        def line(_: int) -> Line:
            start.wait()
            return sampler._line

        lines = set(threads.map(line, range(8)))
    assert len(made) == len(lines) == 1


def test_call_that_another_thread_closes_the_client_under_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(NOBODY)
    list_models = sampler._line.service.ListModels

    def closed_just_before(*args: Any, **kwargs: Any) -> Any:
        sampler.close()
        return list_models.with_call(*args, **kwargs)

    monkeypatch.setattr(sampler._line.service, "ListModels", type("Method", (), {"with_call": closed_just_before}))
    with pytest.raises(CallCancelledError, match="was closed before the call was done"):
        sampler.models()


def test_client_that_made_no_call_makes_no_channel_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc, "insecure_channel", lambda *args, **kwargs: pytest.fail("a channel was made"))
    sampler = Sampler(NOBODY)
    sampler.close()
    with pytest.raises(CallCancelledError):
        sampler.models()
