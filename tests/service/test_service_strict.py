"""Health and reflection answer what is no message, which gRPC itself does not."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.support.service import Service

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
TIMEOUT_S = 60.0


def call(service: Service, method: str, *messages: bytes) -> Any:
    return service.channel.stream_stream(method, None, None)(iter(messages), timeout=TIMEOUT_S)


@pytest.mark.parametrize("method", [CHECK, WATCH, REFLECTION])
def test_bytes_that_are_no_message_are_an_invalid_argument(shared_service: Service, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(call(shared_service, method, b"\x0a\xff\xff\xff\xff\x0f"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be decoded" in (caught.value.details() or "")


@pytest.mark.parametrize("method", [CHECK, WATCH])
def test_a_call_without_a_message_is_an_invalid_argument(shared_service: Service, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(call(shared_service, method))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "missing" in (caught.value.details() or "")


def test_good_messages_are_answered_as_before(shared_service: Service) -> None:
    (reply,) = call(shared_service, CHECK, health_pb2.HealthCheckRequest().SerializeToString())
    assert health_pb2.HealthCheckResponse.FromString(reply).status == health_pb2.HealthCheckResponse.SERVING
    watch = call(shared_service, WATCH, b"")
    assert health_pb2.HealthCheckResponse.FromString(next(watch)).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    replies = [
        reflection_pb2.ServerReflectionResponse.FromString(raw)
        for raw in call(shared_service, REFLECTION, asked, asked)
    ]
    assert len(replies) == 2
    names = {service.name for service in replies[0].list_services_response.service}
    assert {"ganvas.v1.Sampler", "grpc.health.v1.Health"} <= names


def test_reflection_without_a_message_is_over(shared_service: Service) -> None:
    assert list(call(shared_service, REFLECTION)) == []
