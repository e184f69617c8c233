"""A gateway that fails on cue: the scripted service with a Triton beside it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from ganvas.kserve import v2_pb2 as kserve
from ganvas.v1 import sampler_pb2 as pb
from ganvas_client.triton import METHODS
from ganvas_core import noise
from ganvas_core.description import Description
from tests.support.scripted import BATCH_SIZE, DIGEST, Failure, Scripted

__all__ = ["DESCRIPTION", "MAX_COUNT", "MODEL", "Gateway"]

MAX_COUNT = 300
MODEL = pb.Model(
    name="m",
    version="3",
    digest=DIGEST,
    height=1,
    width=2,
    channels=4,
    latent_shape=[2],
    labels=["a", "b", "c"],
    can_encode=True,
    limits=pb.Limits(truncation_max=1.5, max_count=MAX_COUNT, max_stream_count=1000, max_batch_size=BATCH_SIZE),
)

DESCRIPTION = Description(
    digest=DIGEST,
    precision="fp32",
    family="dcgan",
    roles=("sample", "decode", "encode"),
    image=(1, 2, 4),
    latent_shape=(2,),
    labels=("a", "b", "c"),
    noise=noise.ALGORITHM,
    truncation="latent",
    truncation_max=1.5,
)
"""The same model, as Triton's configuration has it."""


@dataclass(kw_only=True)
class Gateway(Scripted):
    """The scripted service with a Triton beside it, whose images are the eight bytes of their seeds."""

    triton: list[Failure] = field(default_factory=list)
    """Of its requests, one after another; the next ones succeed."""
    gone_from: int = 0
    """Requests for seeds before this one succeed in any case."""
    infers: list[kserve.ModelInferRequest] = field(default_factory=list)
    lookups: int = 0
    pixels: int = 8
    """Bytes of an image."""
    names: tuple[str, ...] = ("m", "m-decode", "m-encode", "other")
    versions: tuple[str, ...] = ("2", "3", "10")
    parameters: dict[str, str] = field(
        default_factory=lambda: {
            "ganvas.version.2": dataclasses.replace(DESCRIPTION, digest="d2" * 32).to_json(),
            "ganvas.version.3": DESCRIPTION.to_json(),
            "intra_op_thread_count": "1",
        }
    )
    """Of every configuration. Version 10 is not described."""
    names_nothing: bool = False
    """Whether the index is closed, as in ./ganvas serve."""

    def service(self, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        if method == "GetModel":
            return grpc.unary_unary_rpc_method_handler(
                self._model, pb.GetModelRequest.FromString, pb.GetModelResponse.SerializeToString
            )
        if details.method.startswith("/inference.GRPCInferenceService/"):
            answer = getattr(self, f"_{method}")
            request, reply = METHODS[method]
            return grpc.unary_unary_rpc_method_handler(answer, request.FromString, reply.SerializeToString)
        return super().service(details)

    def _model(self, request: Any, context: Any) -> pb.GetModelResponse:
        self.lookups += 1
        return pb.GetModelResponse(model=MODEL)

    def _ModelMetadata(self, request: Any, context: Any) -> kserve.ModelMetadataResponse:
        self.lookups += 1
        if request.name not in self.names:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        return kserve.ModelMetadataResponse(name=request.name, versions=self.versions)

    def _ModelConfig(self, request: Any, context: Any) -> kserve.ModelConfigResponse:
        config = kserve.ModelConfig(name=request.name, max_batch_size=BATCH_SIZE)
        for key, text in self.parameters.items():
            config.parameters[key].string_value = text
        return kserve.ModelConfigResponse(config=config)

    def _RepositoryIndex(self, request: Any, context: Any) -> kserve.RepositoryIndexResponse:
        if self.names_nothing:
            context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header")
        models = [kserve.RepositoryIndexResponse.ModelIndex(name=name, version="3") for name in self.names]
        return kserve.RepositoryIndexResponse(models=models)

    def _ModelInfer(self, request: kserve.ModelInferRequest, context: Any) -> kserve.ModelInferResponse:
        if request.model_version not in self.versions:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'm' version 3 is not at ready state")
        with self.counting:
            number = len(self.infers)
            self.infers.append(request)
        failure = self.triton[number] if number < len(self.triton) else None
        if int.from_bytes(request.raw_input_contents[0][:8], "little") < self.gone_from:
            failure = None
        if failure is not None:
            self._fail(failure, context)
        reply = kserve.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        first = np.frombuffer(
            request.raw_input_contents[0], np.uint64 if request.inputs[0].name == "seed" else np.uint8
        )
        for name in (output.name for output in request.outputs):
            reply.outputs.add(name=name)
            content = first.view(np.uint8) if name == "image" else np.zeros(2 * request.inputs[0].shape[0], np.float32)
            reply.raw_output_contents.append(content.tobytes()[: self.pixels * request.inputs[0].shape[0]])
        return reply
