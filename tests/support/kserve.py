"""A real KServe v2 peer in the test's own process: bare ONNX Runtime behind Triton's protocol.

For what a real Triton cannot be made to do on command: hold a batch, fail with a chosen status, go away, come back.
What it answers comes from the exported files themselves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from serving.repository.reader import Repository
from tests.support.ports import free_port

DTYPES = {"UINT64": np.uint64, "INT64": np.int64, "FP32": np.float32, "UINT8": np.uint8}


class KServe(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves the ONNX files of a repository's checked versions."""

    def __init__(self, repository: Repository) -> None:
        self.states: dict[str, tuple[str, str]] = {}
        """Model to what RepositoryIndex says of it, if not that it is ready."""
        self.address = ""
        self._released = asyncio.Event()
        self._released.set()
        self.failure: tuple[grpc.StatusCode, str] | None = None
        """The error that every batch gets, if set."""
        self.batch_sizes: list[int] = []
        self.versions: list[str] = []
        self.timeouts_us: list[int] = []
        self.running: Counter[str] = Counter()
        self.most_running = 0
        self.cancelled = 0
        self._paths = {
            (part.name, str(version.version)): repository.folder / part.name / str(version.version) / version.file_name
            for version in repository.versions
            for part in version.parts()
        }
        self._sessions: dict[Path, onnxruntime.InferenceSession] = {}

    async def start(self, address: str | None = None) -> str:
        """Serve; returns host:port, which stays in `address`: nobody takes it while this peer is away."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
        add_GRPCInferenceServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(address or f"127.0.0.1:{free_port()}")
        await self._server.start()
        self.address = f"127.0.0.1:{port}"
        return self.address

    async def stop(self) -> None:
        await self._server.stop(None)

    async def hold(self) -> None:
        """Make batches wait inside the server until `release`, or until they are cancelled."""
        self._released.clear()

    async def release(self) -> None:
        self._released.set()

    async def wait_running(self, count: int) -> None:
        """Return once so many batches are inside, or more, which may have come in one turn of the loop; 0: none."""
        while self.running.total() < count or (not count and self.running.total()):
            await asyncio.sleep(0.005)

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return kserve.ServerLiveResponse(live=True)

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        response = kserve.RepositoryIndexResponse()
        for name, version in self._paths:
            state, reason = self.states.get(name, ("READY", ""))
            response.models.add(name=name, version=version, state=state, reason=reason)
        return response

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        if (request.name, request.version) not in self._paths:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        response = kserve.ModelConfigResponse()
        response.config.instance_group.add(count=1)
        return response

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.timeouts_us.append(request.parameters["timeout"].int64_param)
        self.batch_sizes.append(request.inputs[0].shape[0])
        self.versions.append(request.model_version)
        if self.failure is not None:
            await context.abort(*self.failure)
        self.running[request.model_name] += 1
        self.most_running = max(self.most_running, self.running.total())
        try:
            await self._released.wait()
            return self._infer(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running[request.model_name] -= 1

    def _infer(self, request: Any) -> Any:
        session = self._session(request.model_name, request.model_version)
        feeds = {
            tensor.name: np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        names = [output.name for output in request.outputs]
        response = kserve.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        for name, array in zip(names, session.run(names, feeds), strict=True):
            response.outputs.add(name=name, shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response

    def _session(self, name: str, version: str) -> onnxruntime.InferenceSession:
        path = self._paths[name, version]
        if path not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            self._sessions[path] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return self._sessions[path]
