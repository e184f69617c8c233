"""Names of labels, while the model behind a name is replaced by one that has them in another order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from ganvas.v1 import sampler_pb2 as pb
from ganvas_client import Sampler
from tests.support.asking import CLIENTS, THROUGH_THE_SERVICE
from tests.support.scripted import DIGEST, Failure, serving
from tests.support.scripted_triton import MODEL, Gateway

OTHER = "d2" * 32

SYNC_AND_ASYNC = pytest.mark.parametrize("kind", list(CLIENTS))
METHODS = pytest.mark.parametrize(
    ("method", "first"), [("sample", 1), ("sample_stream", range(3)), ("walk", [1, 2])], ids=lambda value: str(value)
)


@dataclass(kw_only=True)
class Replaced(Gateway):
    """A service whose model is replaced after it was first asked what it is."""

    digest: str = OTHER
    refused: list[str] = field(default_factory=list)
    """Digests that were asked for and are gone."""

    def _model(self, request: Any, context: Any) -> pb.GetModelResponse:
        self.lookups += 1
        if self.lookups == 1:
            return pb.GetModelResponse(model=MODEL)
        model = pb.Model()
        model.CopyFrom(MODEL)
        del model.labels[:]
        model.labels.extend(["c", "b", "a"])
        model.digest = OTHER
        return pb.GetModelResponse(model=model)

    def _next(self, request: Any, context: Any) -> Failure | None:
        if request.digest == DIGEST:
            self.refused.append(request.digest)
            return Failure(code=grpc.StatusCode.FAILED_PRECONDITION, details="digest d1d1d1d1d1d1d1d1… is not served.")
        return super()._next(request, context)


@pytest.fixture
def gateway() -> Replaced:
    return Replaced()


@pytest.fixture
def address(gateway: Replaced) -> Iterator[str]:
    with serving(gateway) as address:
        yield address


@SYNC_AND_ASYNC
@METHODS
def test_name_is_looked_up_again_when_the_model_was_replaced(
    gateway: Replaced, address: str, kind: str, method: str, first: Any
) -> None:
    label: dict[str, Any] = {"label": "a"} if method == "walk" else {"labels": "a"}
    assert THROUGH_THE_SERVICE[kind](address, method, "m", first, **label)
    assert [list(request.labels) for request in gateway.requests] == [[2]]
    assert gateway.refused == [DIGEST]
    assert gateway.lookups == 2


def test_pin_of_the_caller_is_an_error_as_before(gateway: Replaced, address: str) -> None:
    with Sampler(address, direct=False) as sampler, pytest.raises(Exception, match="is not served"):
        sampler.sample("m", 1, labels="a", digest=DIGEST)
    assert gateway.lookups == 1


@SYNC_AND_ASYNC
def test_servers_that_differ_answer_the_second_time(
    gateway: Replaced, address: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two servers behind one address, that which is asked what the model is may have another version."""

    def model(request: Any, context: Any) -> pb.GetModelResponse:
        return pb.GetModelResponse(model=MODEL)

    monkeypatch.setattr(gateway, "_model", model)
    (image,) = THROUGH_THE_SERVICE[kind](address, "sample", "m", 1, labels="a")
    assert (image.label, image.info.digest) == (0, OTHER)
    assert [request.digest for request in gateway.requests] == [""]
