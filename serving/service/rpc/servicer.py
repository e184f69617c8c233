"""The typed API: ganvas.v1.Sampler, answered from Triton batch by batch."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganvas.v1 import sampler_pb2 as pb
from ganvas.v1 import sampler_pb2_grpc
from ganvas_core.names import triton_name
from serving.service.inference.catalog import Catalog, ServedModel
from serving.service.inference.concurrency import as_finished, in_order
from serving.service.inference.image_files import ImageCoder, as_messages
from serving.service.inference.triton_client import Deadline, TritonClient
from serving.service.requests.plans import EncodePlan, ImagePlan, slices
from serving.service.requests.validate import parse_decode, parse_encode, parse_sample, parse_walk
from serving.service.rpc.calls import Call, Calls

__all__ = ["Sampler"]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One batch of images, and when things happened, on time.perf_counter's clock."""

    images: list[pb.Image]
    sent_s: float
    inferred_s: float
    encoded_s: float

    def timing(self) -> pb.Timing:
        """The Timing of a streamed reply: this batch's own."""
        return pb.Timing(
            total_us=_us(self.encoded_s - self.sent_s),
            inference_us=_us(self.inferred_s - self.sent_s),
            encode_us=_us(self.encoded_s - self.inferred_s),
        )


class Sampler(sampler_pb2_grpc.SamplerServicer):
    """The servicer. `catalog` is replaced when what is ready changes."""

    def __init__(self, *, calls: Calls, triton: TritonClient, coder: ImageCoder) -> None:
        self.catalog = Catalog()
        self._calls = calls
        self._triton = triton
        self._coder = coder

    async def Sample(self, request: pb.SampleRequest, context: Any) -> pb.SampleResponse:
        async with self._calls.accept("Sample", request.model, context) as call:
            plan = parse_sample(request, self.catalog, stream=False)
            images = await self._all_images(plan, call)
            return pb.SampleResponse(info=_info(plan), images=images, timing=call.timing())

    async def SampleStream(self, request: pb.SampleRequest, context: Any) -> None:
        async with self._calls.accept("SampleStream", request.model, context) as call:
            plan = parse_sample(request, self.catalog, stream=True)
            jobs = self._batches(plan, call)
            await self._stream(plan, call, context, as_finished(jobs, plan.model.width_in_batches), pb.SampleResponse)

    async def Decode(self, request: pb.DecodeRequest, context: Any) -> pb.DecodeResponse:
        async with self._calls.accept("Decode", request.model, context) as call:
            plan = parse_decode(request, self.catalog)
            images = await self._all_images(plan, call)
            return pb.DecodeResponse(info=_info(plan), images=images, timing=call.timing())

    async def Walk(self, request: pb.WalkRequest, context: Any) -> None:
        async with self._calls.accept("Walk", request.model, context) as call:
            plan = parse_walk(request, self.catalog)
            jobs = self._batches(plan, call)
            await self._stream(plan, call, context, in_order(jobs, plan.model.width_in_batches), pb.WalkResponse)

    async def Encode(self, request: pb.EncodeRequest, context: Any) -> pb.EncodeResponse:
        async with self._calls.accept("Encode", request.model, context) as call:
            plan = parse_encode(request, self.catalog)
            _note(plan, call)
            start_s = time.perf_counter()
            images = await self._coder.decode(plan)
            decoded_s = time.perf_counter()
            name, version, outputs = triton_name(plan.model.name, "encode"), plan.model.version, ("mean", "logvar")
            jobs = (
                self._triton.infer(name, version, {"image": images[start:stop]}, outputs, call.deadline)
                for start, stop in slices(plan.count, plan.model.batch_size)
            )
            async with aclosing(in_order(jobs, plan.model.width_in_batches)) as batches:
                raw = [batch async for batch in batches]
            call.inference_us, call.encode_us = _us(time.perf_counter() - decoded_s), _us(decoded_s - start_s)
            mean, logvar = (np.frombuffer(b"".join(part), np.float32).tolist() for part in zip(*raw, strict=True))
            return pb.EncodeResponse(
                model=plan.model.name,
                version=str(plan.model.version),
                digest=plan.model.entry.digest,
                latent_shape=plan.model.latent_shape,
                mean=mean,
                logvar=logvar,
                timing=call.timing(),
            )

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        async with self._calls.accept("ListModels", "", context):
            return pb.ListModelsResponse(models=[self._describe(model) for model in self.catalog.newest()])

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        async with self._calls.accept("GetModel", request.model, context):
            model = self.catalog.find(request.model, request.version, request.digest)
            certificate_json = model.entry.certificate.to_json()
            return pb.GetModelResponse(model=self._describe(model), certificate_json=certificate_json)

    def _describe(self, model: ServedModel) -> pb.Model:
        return model.describe(self.catalog.versions(model.name))

    async def _all_images(self, plan: ImagePlan, call: Call) -> list[pb.Image]:
        """Every image of a unary call, in order.

        Its inference time ends with the last batch out of Triton; encoding done meanwhile is not counted.
        """
        _note(plan, call)
        start_s = inferred_s = end_s = time.perf_counter()
        images: list[pb.Image] = []
        async with aclosing(in_order(self._batches(plan, call), plan.model.width_in_batches)) as batches:
            async for batch in batches:
                images += batch.images
                inferred_s, end_s = max(inferred_s, batch.inferred_s), max(end_s, batch.encoded_s)
        call.inference_us, call.encode_us = _us(inferred_s - start_s), _us(end_s - inferred_s)
        return images

    async def _stream(
        self, plan: ImagePlan, call: Call, context: Any, batches: AsyncGenerator[Rendered, None], reply: Any
    ) -> None:
        """Send each batch as its own reply. A slow reader pauses the generator, and so the computing."""
        _note(plan, call)
        info = _info(plan)
        async with aclosing(batches):
            async for batch in batches:
                timing = batch.timing()
                call.inference_us += timing.inference_us
                call.encode_us += timing.encode_us
                await context.write(reply(info=info, images=batch.images, timing=timing))

    def _batches(self, plan: ImagePlan, call: Call) -> Iterator[Any]:
        """One coroutine for each batch of the plan."""
        pairs = slices(plan.count, plan.model.batch_size)
        return (self._render(plan, plan.first + start, plan.first + stop, call.deadline) for start, stop in pairs)

    async def _render(self, plan: ImagePlan, start: int, stop: int, deadline: Deadline) -> Rendered:
        sent_s = time.perf_counter()
        inputs = plan.inputs(start, stop)
        (raw,) = await self._triton.infer(plan.triton_model, plan.model.version, inputs, ("image",), deadline)
        inferred_s = time.perf_counter()
        files = await self._coder.encode(plan, raw, start)
        images = as_messages(plan, files, start)
        return Rendered(images=images, sent_s=sent_s, inferred_s=inferred_s, encoded_s=time.perf_counter())


def _info(plan: ImagePlan) -> pb.ImageInfo:
    height, width, channels = plan.model.shape
    return pb.ImageInfo(
        model=plan.model.name,
        version=str(plan.model.version),
        digest=plan.model.entry.digest,
        format=plan.format,
        height=height,
        width=width,
        channels=channels,
        truncation=plan.truncation,
    )


def _note(plan: ImagePlan | EncodePlan, call: Call) -> None:
    """For the access log."""
    call.version, call.count = str(plan.model.version), plan.count


def _us(seconds: float) -> int:
    return int(seconds * 1e6)
