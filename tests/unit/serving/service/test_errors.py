"""Exceptions map to gRPC codes, and internal details are not shown to callers."""

from __future__ import annotations

import logging

import grpc
import pytest

from ganvas_core.requests.errors import InvalidFieldError
from serving.service.errors import CODES, BusyError, InferenceError, ServiceError, status_of


def test_every_error_but_our_own_defect_is_in_the_table() -> None:
    assert {kind for kind, _ in CODES} | {InferenceError} == {InvalidFieldError, *ServiceError.__subclasses__()}
    assert len({code for _, code in CODES}) == len(CODES)


@pytest.mark.parametrize(("kind", "code"), CODES)
def test_error_of_the_table_sends_its_message(kind: type[Exception], code: grpc.StatusCode) -> None:
    made: Exception
    if kind is InvalidFieldError:
        made = InvalidFieldError("seeds", "are wrong.")
    elif kind is BusyError:
        made = BusyError("full.", retry_after_ms=7)
    else:
        made = kind("a message.")
    status = status_of(made)
    assert (status.code, status.message) == (code, str(made))


def test_busy_error_tells_clients_when_to_retry() -> None:
    status = status_of(BusyError("the queue is full.", retry_after_ms=150))
    assert status.trailing_metadata == (("grpc-retry-pushback-ms", "150"),)
    assert status.message == "the queue is full. Retry in 150 ms."


def test_busy_error_tells_the_gateway_for_how_long_it_holds() -> None:
    status = status_of(BusyError("the queue is full.", retry_after_ms=150, binding_ms=60))
    assert status.trailing_metadata == (("grpc-retry-pushback-ms", "150"), ("x-ganvas-binding-ms", "60"))


@pytest.mark.parametrize("error", [InferenceError("at /srv/x"), KeyError("/srv/x"), ZeroDivisionError("/srv/x")])
def test_unexpected_error_shows_only_an_id_that_the_log_has(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="ganvas.service"):
        first, second = status_of(error), status_of(error)
    assert first.code is grpc.StatusCode.INTERNAL
    assert "/srv" not in first.message
    assert first.message != second.message
    error_id = caplog.records[0].getMessage().split()[-1]
    assert error_id in first.message
    assert caplog.records[0].exc_info is not None
