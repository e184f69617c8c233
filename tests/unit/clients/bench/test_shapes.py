"""Requests of a file on KServe v2 models with a batch dimension and without."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from clients.bench.targets import Target, connect, grpc_transport

PATIENCE_S = 60.0


class Model(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Says its shape, or nothing, and keeps those it is sent."""

    def __init__(self, shape: list[int] | None) -> None:
        self.shape = shape
        self.sent: list[list[int]] = []

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        if self.shape is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no")
        tensor = kserve.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=self.shape)
        return kserve.ModelMetadataResponse(name=request.name, inputs=[tensor])

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.sent.append(list(request.inputs[0].shape))
        return kserve.ModelInferResponse(raw_output_contents=[b"answer"])


@pytest.mark.parametrize(
    ("told", "sent"), [([-1, 2, 3], [1, 2, 3]), ([2, 3], [2, 3]), ([-1, 3], [2, 3]), (None, [1, 2, 3])]
)
def test_a_batch_dimension_is_sent_to_a_model_that_has_one(
    told: list[int] | None, sent: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_transport, "LOOK_TIMEOUT_S", PATIENCE_S)
    file = tmp_path / "requests.json"
    tensor = {"content": [1, 2, 3, 4, 5, 6], "shape": [2, 3], "datatype": "FP32"}
    file.write_text(json.dumps({"data": [{"x": tensor}]}))
    model = Model(told)

    async def ask() -> None:
        server = grpc.aio.server()
        add_GRPCInferenceServiceServicer_to_server(model, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        target = Target(kind="kserve", model="m", address=f"127.0.0.1:{port}", input_data=str(file), wait_s=PATIENCE_S)
        connection = await connect(target)
        connection.check(await connection.call(PATIENCE_S))
        await connection.close()
        await server.stop(None)

    asyncio.run(ask())
    assert model.sent == [sent, sent]
