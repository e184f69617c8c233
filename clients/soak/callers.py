"""The kinds of calls of a mixed load. Each makes one call and checks every byte of what arrives.

A kind raises WrongError for wrong bytes, GanvasError or grpc.RpcError for a call that failed, and returns the number
of images that it checked.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from clients.bench.targets import DIRECT_METHOD, SERVICE_METHOD, direct_request
from clients.soak.ledger import Ending
from clients.soak.truth import Truth
from ganvas_client import AsyncSampler, GanvasError, Image, Sampler
from ganvas_core.noise import latents

__all__ = ["KINDS", "Caller", "WrongError", "ending_of", "infer"]

POOL = range(2**40, 2**40 + 4096)
"""Seeds that are asked for, so that each one's image is computed once here."""

VARIANTS = ((1.0, None), (0.7, 3))
"""Truncation, and the label of a conditional model."""

TIMEOUT_S = 30.0
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
MAX_BATCH = 16


class WrongError(Exception):
    """A reply is not what bare ONNX Runtime gives."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whom to call, and what the answers must be."""

    sampler: AsyncSampler
    sync_sampler: Sampler
    channel: grpc.aio.Channel
    """To the typed service, for raw bytes."""
    direct: grpc.aio.Channel
    """To KServe v2."""
    truths: Sequence[Truth]
    rng: random.Random

    def choose(self) -> tuple[Truth, float, int | None]:
        truth = self.rng.choice(self.truths)
        truncation, label = self.rng.choice(VARIANTS)
        return truth, truncation, label if truth.network.num_labels else None

    def some(self, count: int) -> list[int]:
        """Seeds in a row, or anywhere."""
        if self.rng.random() < 0.5:
            first = self.rng.randrange(len(POOL) - count + 1)
            return list(POOL[first : first + count])
        return self.rng.choices(POOL, k=count)


async def small(caller: Caller) -> int:
    """1 to 4 images, raw or PNG."""
    truth, truncation, label = caller.choose()
    seeds = caller.some(caller.rng.randint(1, 4))
    images = await caller.sampler.sample(
        truth.network.name,
        seeds,
        truncation=truncation,
        labels=label,
        format=caller.rng.choice(("raw", "raw", "png")),
        timeout_s=TIMEOUT_S,
    )
    return check(images, truth.images(seeds, truncation=truncation, label=label))


async def small_sync(caller: Caller) -> int:
    """As small, by the client without asyncio."""
    truth, truncation, label = caller.choose()
    seeds = caller.some(caller.rng.randint(1, 4))

    def call() -> int:
        images = caller.sync_sampler.sample(
            truth.network.name, seeds, truncation=truncation, labels=label, timeout_s=TIMEOUT_S
        )
        return check(images, truth.images(seeds, truncation=truncation, label=label))

    return await asyncio.to_thread(call)


async def bulk(caller: Caller) -> int:
    """256 images in one reply."""
    truth, truncation, label = caller.choose()
    seeds = caller.some(256)
    name = truth.network.name
    images = await caller.sampler.sample(name, seeds, truncation=truncation, labels=label, timeout_s=TIMEOUT_S)
    return check(images, truth.images(seeds, truncation=truncation, label=label))


async def stream(caller: Caller) -> int:
    """Up to 3,000 images as they finish."""
    return await _stream(caller, caller.rng.randint(200, 3000), pause_s=0.0)


async def slow_reader(caller: Caller) -> int:
    """A stream whose reader takes half a second over every 50 images."""
    return await _stream(caller, 1000, pause_s=0.5)


async def _stream(caller: Caller, count: int, *, pause_s: float) -> int:
    truth, truncation, label = caller.choose()
    seeds = caller.some(count)
    got: dict[int, Image] = {}
    images = caller.sampler.sample_stream(
        truth.network.name, seeds, truncation=truncation, labels=label, timeout_s=2 * TIMEOUT_S
    )
    async for image in images:
        if image.index in got:
            raise WrongError(f"image {image.index} came twice")
        got[image.index] = image
        if pause_s and len(got) % 50 == 0:
            await asyncio.sleep(pause_s)
    if len(got) != count:
        raise WrongError(f"the stream ended after {len(got)} of {count} images")
    return check([got[i] for i in range(count)], truth.images(seeds, truncation=truncation, label=label))


async def walk(caller: Caller) -> int:
    """The frames between three seeds."""
    truth, truncation, label = caller.choose()
    seeds, steps = caller.rng.choices(POOL, k=3), caller.rng.randint(1, 40)
    frames = caller.sampler.walk(
        truth.network.name, seeds, steps=steps, label=label, truncation=truncation, timeout_s=2 * TIMEOUT_S
    )
    got = [frame async for frame in frames]
    if [frame.index for frame in got] != list(range(2 * steps + 1)):
        raise WrongError(f"frames {[frame.index for frame in got][:100]} are not 0 to {2 * steps}")
    return check(got, truth.walk(seeds, steps, label=label or 0, truncation=truncation))


async def decode(caller: Caller) -> int:
    """The images of 1 to 64 latents."""
    truth, _, label = caller.choose()
    points = latents(caller.rng.choices(POOL, k=caller.rng.randint(1, 64)), truth.network.latent_dim)
    label = (label or 0) if truth.network.num_labels else None
    images = await caller.sampler.decode(truth.network.name, points, labels=label, timeout_s=TIMEOUT_S)
    return check(images, truth.decoded(points, label or 0))


async def encode(caller: Caller) -> int:
    """The posterior of 1 to 64 images."""
    truth = caller.rng.choice([truth for truth in caller.truths if truth.network.can_encode])
    made = truth.images(caller.some(caller.rng.randint(1, 64)))
    pixels = np.stack([np.frombuffer(image, np.uint8).reshape(32, 32, 1) for image in made])
    posterior = await caller.sampler.encode(truth.network.name, pixels, timeout_s=TIMEOUT_S)
    for got, expected in zip((posterior.mean, posterior.logvar), truth.posterior(pixels), strict=True):
        if got.tobytes() != expected.tobytes():
            raise WrongError(f"a posterior of {truth.network.name} differs")
    return len(pixels)


async def direct(caller: Caller) -> int:
    """Up to a batch of images by KServe v2; like any client of it, it repeats what was UNAVAILABLE."""
    truth, truncation, label = caller.choose()
    seeds = caller.some(caller.rng.randint(1, MAX_BATCH))
    request = direct_request(truth.network.name, seeds, truncation=truncation, labels=truth.labels(seeds, label))
    reply = await _until_answered(lambda timeout_s: infer(caller.direct, request, timeout_s=timeout_s))
    expected = b"".join(truth.images(seeds, truncation=truncation, label=label))
    if reply != expected:
        raise WrongError(f"KServe: {len(seeds)} images of {truth.network.name} differ")
    return len(seeds)


async def infer(channel: grpc.aio.Channel, request: bytes, *, timeout_s: float) -> bytes:
    """The first output's bytes of a ModelInfer."""
    call = channel.unary_unary(DIRECT_METHOD, None, service_pb2.ModelInferResponse.FromString)
    reply = await call(request, timeout=timeout_s)
    return bytes(reply.raw_output_contents[0])


async def cancelled(caller: Caller) -> int:
    """A stream or a bulk call that its caller leaves after a moment."""
    truth, truncation, label = caller.choose()
    images = caller.sampler.sample_stream(truth.network.name, POOL, truncation=truncation, labels=label, timeout_s=60.0)
    leave_s, count = time.monotonic() + caller.rng.uniform(0.0, 0.3), 0
    expected = truth.images(POOL, truncation=truncation, label=label)
    try:
        async with asyncio.timeout(1.0):
            async for image in images:
                count += check([image], [expected[image.index]])
                if time.monotonic() > leave_s:
                    break
    except TimeoutError:
        pass
    finally:
        await images.aclose()
    return count


async def malformed(caller: Caller) -> int:
    """Bytes that are no message, or a message that asks for nonsense."""
    payload = caller.rng.choice((caller.rng.randbytes(60), b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x03abc", b""))
    call = caller.channel.unary_unary(SERVICE_METHOD, None, None)
    try:
        await call(payload, timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        answers = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, *RETRIED)
        if error.code() not in answers:
            raise
    return 0


KINDS: dict[str, tuple[Callable[[Caller], Awaitable[int]], int, float]] = {
    "small": (small, 3, 0.05),
    "small, sync client": (small_sync, 1, 0.05),
    "bulk": (bulk, 1, 0.5),
    "stream": (stream, 2, 0.5),
    "slow reader": (slow_reader, 2, 0.5),
    "walk": (walk, 1, 0.3),
    "decode": (decode, 1, 0.2),
    "encode": (encode, 1, 0.2),
    "KServe": (direct, 2, 0.05),
    "cancelled": (cancelled, 1, 0.3),
    "malformed": (malformed, 1, 0.1),
}
"""Name to the kind, how many callers make it, and the seconds that each pauses between calls on average."""


def check(images: Sequence[Image], expected: Sequence[bytes]) -> int:
    """Compare every image; returns how many there were.

    Raises:
        WrongError: one differs, or there are more or fewer.
    """
    for image, right in zip(images, expected, strict=True):
        if image.array.tobytes() != right:
            raise WrongError(f"image {image.index} of {image.info.model}, seed {image.seed}, differs")
    return len(expected)


def ending_of(error: Exception) -> Ending:
    """How the ledger calls a failure."""
    if isinstance(error, WrongError | ValueError) and not isinstance(error, GanvasError):
        return "wrong"
    code = error.code() if isinstance(error, grpc.RpcError) else getattr(error, "code", None)
    return "refused" if code == grpc.StatusCode.RESOURCE_EXHAUSTED else "lost"


async def _until_answered(call: Callable[[float], Awaitable[bytes]]) -> bytes:
    """Repeat while the answer is one to repeat, within TIMEOUT_S."""
    deadline_s, pause_s = time.monotonic() + TIMEOUT_S, 0.1
    while True:
        try:
            return await call(max(0.001, deadline_s - time.monotonic()))
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRIED or time.monotonic() + pause_s > deadline_s:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)
