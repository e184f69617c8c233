"""AsyncSampler: the calls of ganvas_client.calls over a channel of grpc.aio. ganvas_client.sampler says more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, ClassVar, TypeVar

import grpc
import grpc.aio
from numpy.typing import ArrayLike

from ganvas.kserve import v2_pb2 as kserve
from ganvas_client import calls, tracing
from ganvas_client.arguments import ImagesLike, Labels, Seeds
from ganvas_client.calls import Report, StreamCall, UnaryCall
from ganvas_client.direct import IN_FLIGHT, DirectCall, NotDirectError
from ganvas_client.errors import GanvasError, InvalidArgumentError
from ganvas_client.hedging import AioAttempt, first_of_aio, watched
from ganvas_client.results import Format, Image, Images, ModelInfo, Posterior
from ganvas_client.running import Running, StaleLabelsError
from ganvas_client.streams import Progress, num_images
from ganvas_client.transport import Client
from ganvas_client.triton import Ask, Lookup

__all__ = ["AsyncSampler"]

T = TypeVar("T")


class AsyncSampler(Client):
    """A connection to the sampling service for asyncio. Close it, or use it in an `async with`.

    The methods are Sampler's, awaitable. It belongs to the event loop of its first call: make one in each loop.
    """

    _transport: ClassVar[ModuleType] = grpc.aio
    _loop: asyncio.AbstractEventLoop | None = None
    """The one that the channel belongs to."""

    async def sample(
        self,
        model: str,
        seeds: Seeds,
        *,
        labels: Labels | None = None,
        truncation: float | None = None,
        format: Format = "raw",
        version: int | str | None = None,
        digest: str | None = None,
        timeout_s: float | None = 60.0,
        progress: Report | None = None,
    ) -> Images:
        """As Sampler.sample."""
        return await self._call(
            calls.sample(
                model,
                seeds,
                labels=labels,
                truncation=truncation,
                format=format,
                version=version,
                digest=digest,
                timeout_s=timeout_s,
                progress=progress,
            )
        )

    def sample_stream(
        self,
        model: str,
        seeds: Seeds,
        *,
        labels: Labels | None = None,
        truncation: float | None = None,
        format: Format = "raw",
        version: int | str | None = None,
        digest: str | None = None,
        timeout_s: float | None = 600.0,
    ) -> AsyncGenerator[Image, None]:
        """As Sampler.sample_stream."""
        return self._stream(
            calls.sample_stream(
                model,
                seeds,
                labels=labels,
                truncation=truncation,
                format=format,
                version=version,
                digest=digest,
                timeout_s=timeout_s,
            )
        )

    async def decode(
        self,
        model: str,
        latents: ArrayLike,
        *,
        labels: Labels | None = None,
        format: Format = "raw",
        version: int | str | None = None,
        digest: str | None = None,
        timeout_s: float | None = 60.0,
    ) -> Images:
        """As Sampler.decode."""
        return await self._call(
            calls.decode(
                model, latents, labels=labels, format=format, version=version, digest=digest, timeout_s=timeout_s
            )
        )

    async def encode(
        self,
        model: str,
        images: ImagesLike,
        *,
        version: int | str | None = None,
        digest: str | None = None,
        timeout_s: float | None = 60.0,
    ) -> Posterior:
        """As Sampler.encode."""
        return await self._call(calls.encode(model, images, version=version, digest=digest, timeout_s=timeout_s))

    def walk(
        self,
        model: str,
        seeds: Seeds,
        *,
        steps: int = 16,
        loop: bool = False,
        label: int | str | None = None,
        truncation: float | None = None,
        format: Format = "raw",
        version: int | str | None = None,
        digest: str | None = None,
        timeout_s: float | None = 600.0,
    ) -> AsyncGenerator[Image, None]:
        """As Sampler.walk."""
        return self._stream(
            calls.walk(
                model,
                seeds,
                steps=steps,
                loop=loop,
                label=label,
                truncation=truncation,
                format=format,
                version=version,
                digest=digest,
                timeout_s=timeout_s,
            )
        )

    async def models(
        self,
        *,
        timeout_s: float | None = 60.0,
    ) -> list[ModelInfo]:
        """As Sampler.models."""
        return await self._call(calls.models(timeout_s=timeout_s))

    async def model(
        self,
        name: str,
        *,
        version: int | str | None = None,
        digest: str | None = None,
        timeout_s: float | None = 60.0,
    ) -> ModelInfo:
        """As Sampler.model."""
        return await self._call(calls.model(name, version=version, digest=digest, timeout_s=timeout_s))

    async def close(self) -> None:
        """End the connection and every call on it."""
        if (channel := self._end_line()) is not None:
            self._check_loop()
            await channel.close()

    async def __aenter__(self) -> AsyncSampler:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _make_channel(self) -> Any:
        self._loop = asyncio.get_running_loop()
        return super()._make_channel()

    def _check_open(self) -> None:
        """Raises a CallCancelledError if it was closed, and a RuntimeError in another event loop."""
        super()._check_open()
        self._check_loop()

    def _check_loop(self) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise RuntimeError(
                f"this AsyncSampler of {self.address} belongs to another event loop, that of its first call. Make one "
                "in each loop, or share a Sampler between threads."
            )

    @contextmanager
    def _told_of_close(self) -> Iterator[None]:
        """gRPC cancels the calls of a channel that is closed; nobody cancelled the task that waits for one.

        Raises:
            CallCancelledError: the client was closed.
        """
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self._check_open()
            raise

    async def _call(self, call: UnaryCall[T]) -> T:
        with tracing.span(call.rpc, self.address) as headers, self._told_of_close():
            running = self._begin(call, headers)
            if (lookup := running.asks_triton()) is not None:
                found: T = await self._look_up(running, lookup)
                return found
            direct = await self._prepare(running)
            if direct is not None:
                try:
                    result: T = direct.result(await self._replies(direct, running, call))
                    return result
                except NotDirectError:
                    if not self._has_service:
                        again: T = await self._call(running.again())
                        return again
            try:
                answer: T = await self._of_service(call, running)
            except StaleLabelsError:
                answer = await self._call(running.again())
            return answer

    async def _of_service(self, call: UnaryCall[T], running: Running) -> Any:
        """What the service gives, in as many requests as it needs."""
        if not running.is_too_large:
            try:
                return await self._unary(call, running)
            except InvalidArgumentError:
                if (lookup := running.lookup_limits()) is None:
                    raise
                running.learn(await self._call(lookup))
                if not running.is_too_large:
                    raise
        if (stream := running.as_stream()) is not None:
            images = []
            async for image in self._from_service(running, stream):
                images.append(image)
                call.report(len(images), stream.num_images)
            return running.gathered(images)
        done: list[Any] = []
        for part in running.parts(done):
            done.append(await self._unary(part, running))
        return running.joined(done)

    async def _replies(self, direct: DirectCall, running: Running, call: UnaryCall[Any]) -> deque[Any]:
        """Triton's reply to every batch. One batch is common, and needs no generator."""
        if direct.is_one:
            ask = direct.ask(*next(direct.spans()))
            replies = deque([await self._answer(running, ask, self._send(running, ask))])
            call.report(direct.count, direct.count)
            return replies
        replies = deque()
        async for (_, stop), reply in self._batches(direct, running):
            replies.append(reply)
            call.report(stop, direct.count)
        return replies

    async def _unary(self, call: UnaryCall[T], running: Running) -> T:
        """The service's one reply."""
        while True:
            attempts = [watched(running.start(call.request))]

            def again(started: list[AioAttempt] = attempts) -> AioAttempt:
                started.append(watched(running.start(call.request)))
                return started[-1]

            try:
                attempt = await self._first_of(attempts[0], again)
                reply = await attempt.call
                result = call.read(reply, running.answered(await attempt.call.trailing_metadata()))
            except grpc.RpcError as error:
                await self._wait(running.wait_s(error))
            else:
                if call.progress is not None:
                    call.report(num_images(call.request), num_images(call.request))
                return result
            finally:
                for started in attempts:
                    started.call.cancel()

    async def _stream(self, call: StreamCall) -> AsyncGenerator[Image, None]:
        with tracing.span(call.rpc, self.address) as headers, self._told_of_close():
            running = self._begin(call, headers)
            direct = await self._prepare(running)
            progress = running.progress()
            if direct is not None:
                try:
                    async for span, reply in self._batches(direct, running):
                        for image in progress.take_images(direct.images(*span, reply)):
                            yield image
                    progress.finish()
                    return
                except NotDirectError:
                    if not self._has_service:
                        async for image in self._stream(running.again()):
                            yield image
                        return
                    progress.resume()
            try:
                async for image in self._from_service(running, progress):
                    yield image
            except StaleLabelsError:
                async for image in self._stream(running.again()):
                    yield image

    async def _from_service(self, running: Running, progress: Progress) -> AsyncGenerator[Image, None]:
        """What is missing of a stream."""
        while True:
            replies = running.start(progress.request)
            try:
                async for reply in replies:
                    for image in progress.take(reply, running.answered(await replies.initial_metadata())):
                        yield image
                if progress.finish():
                    return
            except grpc.RpcError as error:
                if progress.done:
                    return
                await self._wait(running.wait_s(error))
                progress.resume()
            finally:
                replies.cancel()

    async def _prepare(self, running: Running) -> DirectCall | None:
        if (lookup := running.lookup()) is None:
            return running.prepare(None)
        info = await self._call(lookup)
        return running.prepare(info)

    async def _batches(
        self, direct: DirectCall, running: Running
    ) -> AsyncGenerator[tuple[tuple[int, int], kserve.ModelInferResponse], None]:
        """Every batch of a call with Triton's reply, in order.

        Raises:
            NotDirectError: Triton did not answer one of them.
        """
        spans = direct.spans()
        under_way: deque[tuple[tuple[int, int], Ask, AioAttempt]] = deque()
        while True:
            while len(under_way) < IN_FLIGHT and (span := next(spans, None)) is not None:
                ask = direct.ask(*span)
                under_way.append((span, ask, self._send(running, ask)))
            if not under_way:
                return
            first, ask, attempt = under_way.popleft()
            yield first, await self._answer(running, ask, attempt)

    async def _look_up(self, running: Running, lookup: Lookup[T]) -> T:
        """What Triton says of its models."""
        go_on = partial(next, lookup)
        try:
            while True:
                ask = go_on()
                try:
                    go_on = partial(lookup.send, await self._answer(running, ask, self._send(running, ask)))
                except GanvasError as error:
                    go_on = partial(lookup.throw, error)
        except StopIteration as done:
            found: T = done.value
            return found

    async def _answer(self, running: Running, ask: Ask, attempt: AioAttempt) -> Any:
        """Triton's reply, at this attempt or a later one."""
        while True:
            try:
                if self._hedge_after_s is not None:
                    attempt = await self._first_of(attempt, partial(self._send, running, ask))
                await attempt.ended
                reply = await attempt.call
            except grpc.RpcError as error:
                await self._wait(running.direct_wait_s(ask, error))
                attempt = self._send(running, ask)
            else:
                running.answered(None)
                return reply

    def _send(self, running: Running, ask: Ask) -> AioAttempt:
        """Ask Triton, which ends even if nobody waits for it: see Sampler._batches."""
        attempt = watched(running.ask(ask), self._under_way.discard)
        self._under_way.add(attempt)
        return attempt

    async def _first_of(self, attempt: AioAttempt, start: Callable[[], AioAttempt]) -> AioAttempt:
        """This one, or one that is started beside it because it is late."""
        if self._hedge_after_s is None:
            return attempt
        return await first_of_aio(attempt, start, self._hedge_after_s)

    async def _wait(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self._check_open()
