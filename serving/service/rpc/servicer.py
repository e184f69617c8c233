"""The typed API: ganvas.v1.Sampler, answered from Triton batch by batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.interface import Arrays
from ganvas_core.names import triton_name
from ganvas_core.requests.plans import EncodePlan, ImagePlan
from ganvas_core.requests.validate import parse_decode, parse_encode, parse_sample, parse_walk
from serving.service.inference.cache import ImageCache
from serving.service.inference.catalog import Catalog, ServedModel
from serving.service.inference.concurrency import as_finished, in_order
from serving.service.inference.dispatch import Batches, Dispatcher
from serving.service.inference.gather import Gatherer, Headers
from serving.service.inference.image_files import ImageCoder, as_messages
from serving.service.inference.triton_client import Deadline, TritonClient
from serving.service.metrics import Metrics
from serving.service.rpc.calls import Call
from serving.service.rpc.methods import Send
from serving.service.tracing import Trace, part_of

__all__ = ["Sampler"]

T = TypeVar("T")
Images: TypeAlias = ImagePlan[ServedModel]
Plan: TypeAlias = ImagePlan[ServedModel] | EncodePlan[ServedModel]

RECENT_CALLS = 100
"""Calls that GetModel's times are the mean of."""

FORMATS = {number: name.removeprefix("FORMAT_").lower() for name, number in pb.Format.items()}

LONG_BYTES = 2**16


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


class Sampler:
    """The servicer: one method each. `catalog` is replaced when what is ready changes.

    Args:
        cache: answers unary calls whose images it has; None: there is none.
    """

    def __init__(
        self,
        *,
        triton: TritonClient,
        coder: ImageCoder,
        dispatcher: Dispatcher,
        metrics: Metrics,
        cache: ImageCache | None = None,
    ) -> None:
        self.catalog = Catalog()
        self._metrics = metrics
        self._recent: dict[tuple[str, int], deque[pb.Timing]] = {}
        """Of each version, the timings of its last unary calls."""
        self._triton = triton
        self._coder = coder
        self._dispatcher = dispatcher
        self._cache = cache
        self._gatherers: dict[tuple[str, int, tuple[str, ...]], Gatherer] = {}
        """Of each Triton model, version and choice of outputs."""

    async def Sample(self, request: pb.SampleRequest, call: Call) -> pb.SampleResponse:
        plan = parse_sample(request, self._find(request), stream=False)
        images = await self._all_images(plan, call)
        return pb.SampleResponse(info=_info(plan), images=images, timing=call.timing())

    async def SampleStream(self, request: pb.SampleRequest, call: Call, send: Send) -> None:
        plan = await _checked(parse_sample, request, self._find(request), stream=True)
        await self._stream(plan, call, send, as_finished, pb.SampleResponse)

    async def Decode(self, request: pb.DecodeRequest, call: Call) -> pb.DecodeResponse:
        plan = await _checked(parse_decode, request, self._find(request))
        images = await self._all_images(plan, call)
        return pb.DecodeResponse(info=_info(plan), images=images, timing=call.timing())

    async def Walk(self, request: pb.WalkRequest, call: Call, send: Send) -> None:
        plan = await _checked(parse_walk, request, self._find(request))
        await self._stream(plan, call, send, in_order, pb.WalkResponse)

    async def Encode(self, request: pb.EncodeRequest, call: Call) -> pb.EncodeResponse:
        plan = parse_encode(request, self._find(request))
        name, outputs = triton_name(plan.model.name, "encode"), ("mean", "logvar")
        with self._admitted(plan, name, call) as work:
            start_s = time.perf_counter()
            with part_of(call.trace, "decode files"):
                images = await self._coder.decode(plan)
            decoded_s = time.perf_counter()

            async def infer(start: int, stop: int) -> list[bytes]:
                return await self._infer(plan.model, name, {"image": images[start:stop]}, outputs, call)

            raw = await _all(work, infer, plan.model.width_in_batches(name))
        self._note(plan, call, work, inference_s=time.perf_counter() - decoded_s, encode_s=decoded_s - start_s)
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

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=self.catalog.describe())

    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        model = self._find(request)
        entry = model.entry
        described = model.describe(self.catalog.versions(model.name))
        recent = _mean(self._recent.get((model.name, model.version)))
        return pb.GetModelResponse(
            model=described,
            certificate_json=entry.certificate.to_json(),
            recent=recent,
            encode_certificate_json=entry.encode.to_json() if entry.encode else "",
        )

    def _find(self, request: Any) -> ServedModel:
        return self.catalog.find(request.model, request.version, request.digest)

    def _admitted(
        self, plan: Plan, triton_model: str, call: Call, *, stream: bool = False
    ) -> AbstractContextManager[Batches[Any]]:
        """Let the call in, or refuse it; and note what it is, for the access log."""
        call.version, call.count = str(plan.model.version), plan.count
        return self._dispatcher.admitted(
            plan.model,
            triton_model,
            plan.count,
            caller=call.caller,
            deadline=call.deadline,
            bulk=call.bulk,
            stream=stream,
            on_turn=partial(_trace_wait, call.trace),
        )

    async def _all_images(self, plan: Images, call: Call) -> list[pb.Image]:
        """Every image of a unary call, in order.

        Its inference time ends with the last batch out of Triton; encoding done meanwhile is not counted.
        """
        start_s = time.perf_counter()
        if (kept := await self._kept_images(plan, call)) is not None:
            return kept
        width = plan.model.width_in_batches(plan.triton_model)
        with self._admitted(plan, plan.triton_model, call) as work:
            batches: list[Rendered] = await _all(work, self._render(plan, call), width)
        inferred_s, end_s = max(batch.inferred_s for batch in batches), max(batch.encoded_s for batch in batches)
        self._note(plan, call, work, inference_s=inferred_s - start_s, encode_s=end_s - inferred_s)
        return [image for batch in batches for image in batch.images]

    async def _kept_images(self, plan: Images, call: Call) -> list[pb.Image] | None:
        """The images of a call that were all made before. They wait for nothing."""
        if self._cache is None or not _is_kept(plan):
            return None
        inputs = plan.inputs(plan.first, plan.first + plan.count)
        raw = self._cache.get(plan.model, plan.triton_model, inputs)
        counter = self._metrics.cache_misses if raw is None else self._metrics.cache_hits
        counter.labels(plan.model.name).inc()
        if raw is None:
            return None
        call.version, call.count = str(plan.model.version), plan.count
        start_s = time.perf_counter()
        images = await self._encoded(plan, raw, plan.first, call)
        call.encode_us = _us(time.perf_counter() - start_s)
        return images

    async def _encoded(self, plan: Images, raw: bytes, start: int, call: Call) -> list[pb.Image]:
        """The reply's images of raw ones, the first being number `start` of the request."""
        start_s = time.perf_counter()
        with part_of(call.trace, "encode files"):
            files = await self._coder.encode(plan, raw, start)
        images = as_messages(plan, files, start)
        if plan.format != pb.FORMAT_RAW:
            self._metrics.encode_seconds.labels(FORMATS[plan.format]).observe(time.perf_counter() - start_s)
        return images

    async def _stream(self, plan: Images, call: Call, send: Send, order: Any, reply: Any) -> None:
        """Send each batch as its own reply, in some order. A slow reader pauses the generator, and so the computing."""
        info, width = _info(plan), plan.model.width_in_batches(plan.triton_model)
        with self._admitted(plan, plan.triton_model, call, stream=True) as work:
            async with aclosing(order(work.jobs(self._render(plan, call)), width)) as batches:
                async for batch in batches:
                    if batch is None:
                        continue
                    timing = batch.timing()
                    call.queue_us = timing.queue_us = _us(work.queue_s or 0.0)
                    call.inference_us += timing.inference_us
                    call.encode_us += timing.encode_us
                    await send(reply(info=info, images=batch.images, timing=timing))

    def _render(self, plan: Images, call: Call) -> Callable[[int, int], Coroutine[Any, Any, Rendered]]:
        async def render(start: int, stop: int) -> Rendered:
            start, stop = plan.first + start, plan.first + stop
            sent_s = time.perf_counter()
            inputs = plan.inputs(start, stop)
            (raw,) = await self._infer(plan.model, plan.triton_model, inputs, ("image",), call)
            inferred_s = time.perf_counter()
            if self._cache is not None and _is_kept(plan):
                self._cache.put(plan.model, plan.triton_model, inputs, raw)
            images = await self._encoded(plan, raw, start, call)
            encoded_s = time.perf_counter()
            self._metrics.images.labels(plan.model.name, str(plan.model.version)).inc(stop - start)
            return Rendered(images=images, sent_s=sent_s, inferred_s=inferred_s, encoded_s=encoded_s)

        return render

    async def _infer(
        self, model: ServedModel, triton_model: str, inputs: Arrays, outputs: tuple[str, ...], call: Call
    ) -> list[bytes]:
        """One batch of a call in Triton, traced; less than a full one goes together with others that wait."""
        rows = len(next(iter(inputs.values())))
        with part_of(call.trace, "inference", model=triton_model, images=rows) as headers:
            if rows >= model.batch_size:
                return await self._send((triton_model, model.version, outputs), inputs, call.deadline, headers)
            return await self._gatherer(model, triton_model, outputs).infer(inputs, call.deadline, headers)

    def _gatherer(self, model: ServedModel, triton_model: str, outputs: tuple[str, ...]) -> Gatherer:
        key = (triton_model, model.version, outputs)
        if key not in self._gatherers:
            width = model.width_in_batches(triton_model)
            self._gatherers[key] = Gatherer(partial(self._send, key), width=width, batch_size=model.batch_size)
        return self._gatherers[key]

    async def _send(
        self, key: tuple[str, int, tuple[str, ...]], inputs: Arrays, deadline: Deadline, headers: Headers
    ) -> list[bytes]:
        """One request in Triton, measured."""
        triton_model, version, outputs = key
        self._metrics.batch_images.labels(triton_model).observe(len(next(iter(inputs.values()))))
        sent_s = time.perf_counter()
        raw = await self._triton.infer(triton_model, version, inputs, outputs, deadline, headers)
        self._metrics.inference_seconds.labels(triton_model).observe(time.perf_counter() - sent_s)
        return raw

    def _note(self, plan: Plan, call: Call, work: Batches[Any], *, inference_s: float, encode_s: float) -> None:
        """Where the time of a unary call went.

        Args:
            inference_s: with the wait for its turn.
        """
        queue_s = work.queue_s or 0.0
        call.queue_us, call.inference_us, call.encode_us = _us(queue_s), _us(inference_s - queue_s), _us(encode_s)
        recent = self._recent.setdefault((plan.model.name, plan.model.version), deque(maxlen=RECENT_CALLS))
        recent.append(call.timing())


async def _checked(check: Callable[..., T], request: Any, model: ServedModel, **options: Any) -> T:
    """check(request, model); of a long request in a thread, so that others are answered meanwhile."""
    if request.ByteSize() <= LONG_BYTES:
        return check(request, model, **options)
    return await asyncio.to_thread(check, request, model, **options)


async def _all(work: Batches[T], render: Callable[[int, int], Coroutine[Any, Any, T]], width: int) -> list[T]:
    """The result of every batch of a call, in order."""
    if work.is_one:
        batch = await work.run(render, work.reserve())
        return [] if batch is None else [batch]
    async with aclosing(in_order(work.jobs(render), width)) as batches:
        return [batch async for batch in batches if batch is not None]


def _is_kept(plan: Images) -> bool:
    """Whether its images may be asked for again: one long stream would drive out all others."""
    return plan.count <= plan.model.batch_size


def _info(plan: Images) -> pb.ImageInfo:
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


def _trace_wait(trace: Trace | None, queue_s: float) -> None:
    if trace is not None:
        trace.add("admission", queue_s)


def _mean(timings: Sequence[pb.Timing] | None) -> pb.Timing | None:
    """None if there are none."""
    if not timings:
        return None
    names = ("total_us", "queue_us", "inference_us", "encode_us")
    return pb.Timing(**{name: sum(getattr(entry, name) for entry in timings) // len(timings) for name in names})


def _us(seconds: float) -> int:
    return max(0, int(seconds * 1e6))
