"""Sampler: the calls of ganvas_client.calls over a gRPC channel. ganvas_client.async_sampler has them awaitable.

An image is a pure function of (model digest, seed, truncation, label), so every call is safe to repeat:
ganvas_client.attempts says when, ganvas_client.streams from where. What Triton itself can answer takes the shortest
way: ganvas_client.direct.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
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
from ganvas_client.hedging import first_of
from ganvas_client.results import Format, Image, Images, ModelInfo, Posterior
from ganvas_client.running import Running, StaleLabelsError
from ganvas_client.streams import Progress, num_images
from ganvas_client.transport import Client
from ganvas_client.triton import Ask, Lookup

__all__ = ["Sampler"]

T = TypeVar("T")


class Sampler(Client):
    """A connection to the sampling service. Safe to share between threads; close it, or use it in a `with`."""

    _transport: ClassVar[ModuleType] = grpc

    def sample(
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
        """The images of the seeds, in order: as many as memory holds. sample_stream gives more, one by one.

        Args:
            seeds: one or many whole numbers within [0, 2^64); a range of any size costs 16 bytes.
            labels: one for all or one a seed, as index or name. None: of a conditional model, each image's label is its
                seed modulo the number of labels.
            truncation: how far from the mean latents may be: 1 (the default) leaves them, 0 gives the mean.
            format: raw pixels, uint8 height x width x channels, or a file: png, jpeg or webp.
            version: None is the newest.
            digest: SHA-256 of the ONNX file that must answer, as in ImageInfo.digest. None: any.
            timeout_s: None waits without limit. It includes further attempts, while the service is busy or unavailable.
            progress: called with how many images have come, and how many there are in all.
        Raises:
            GanvasError: see ganvas_client.errors. NotFoundError and InvalidArgumentError say what there is.
        """
        return self._call(
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
    ) -> Generator[Image, None, None]:
        """The images of the seeds one by one, as batches finish: Image.index is the place among the seeds.

        Any number of them: few are in memory at a time. A stream that breaks off goes on with the images that are
        missing, of the same version and digest. Leaving the iterator asks for no more; what is inside Triton by then,
        at most four batches, is computed to its end and dropped. Arguments and errors are those of sample.
        """
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

    def decode(
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
        """The images of latents.

        Args:
            latents: [N, *latent_shape] float32, or one latent without N.
            labels: as in sample, but a conditional model needs them: one for all, or one a latent.
        Raises:
            GanvasError: see ganvas_client.errors.
        """
        return self._call(
            calls.decode(
                model, latents, labels=labels, format=format, version=version, digest=digest, timeout_s=timeout_s
            )
        )

    def encode(
        self,
        model: str,
        images: ImagesLike,
        *,
        version: int | str | None = None,
        digest: str | None = None,
        timeout_s: float | None = 60.0,
    ) -> Posterior:
        """The posterior of images, by the encoder of a VAE.

        Args:
            images: uint8 [N,H,W,C] or [H,W,C], what sample returned, Pillow images, or PNG, JPEG or WebP files as
                bytes.
        Raises:
            GanvasError: see ganvas_client.errors. InvalidArgumentError when the model has no encoder.
        """
        return self._call(calls.encode(model, images, version=version, digest=digest, timeout_s=timeout_s))

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
    ) -> Generator[Image, None, None]:
        """The frames of a walk through latent space from seed to seed, in order; Image.index is the frame number.

        A walk that breaks off goes on after the last frame, with the same version and digest. Leaving the iterator
        asks for no more, as of sample_stream. A walk has at most ModelInfo.limits.max_stream_count frames.

        Args:
            seeds: two or more to pass through.
            steps: frames from one seed to the next. There are (seeds - 1) * steps + 1 frames, or seeds * steps in a
                loop.
            loop: go back to the first seed.
            label: of every frame. None: the first label.
        Raises:
            GanvasError: see ganvas_client.errors.
        """
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

    def models(
        self,
        *,
        timeout_s: float | None = 60.0,
    ) -> list[ModelInfo]:
        """Every model, in the version that an empty one means; `out` says why one is not served."""
        return self._call(calls.models(timeout_s=timeout_s))

    def model(
        self,
        name: str,
        *,
        version: int | str | None = None,
        digest: str | None = None,
        timeout_s: float | None = 60.0,
    ) -> ModelInfo:
        """One model: shapes, labels, limits, digest and certificate.

        Raises:
            NotFoundError: no such model or version; says what there is.
        """
        return self._call(calls.model(name, version=version, digest=digest, timeout_s=timeout_s))

    def close(self) -> None:
        """End the connection and every call on it, also what Triton computes for one that was left."""
        if (channel := self._end_line()) is not None:
            channel.close()

    def __enter__(self) -> Sampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, call: UnaryCall[T]) -> T:
        with tracing.span(call.rpc, self.address) as headers:
            running = self._begin(call, headers)
            if (lookup := running.asks_triton()) is not None:
                found: T = self._look_up(running, lookup)
                return found
            direct = self._prepare(running)
            if direct is not None:
                try:
                    result: T = direct.result(self._replies(direct, running, call))
                    return result
                except NotDirectError:
                    if not self._has_service:
                        again: T = self._call(running.again())
                        return again
            try:
                answer: T = self._of_service(call, running)
            except StaleLabelsError:
                answer = self._call(running.again())
            return answer

    def _of_service(self, call: UnaryCall[T], running: Running) -> Any:
        """What the service gives, in as many requests as it needs."""
        if not running.is_too_large:
            try:
                return self._unary(call, running)
            except InvalidArgumentError:
                if (lookup := running.lookup_limits()) is None:
                    raise
                running.learn(self._call(lookup))
                if not running.is_too_large:
                    raise
        if (stream := running.as_stream()) is not None:
            images = []
            for image in self._from_service(running, stream):
                images.append(image)
                call.report(len(images), stream.num_images)
            return running.gathered(images)
        done: list[Any] = []
        for part in running.parts(done):
            done.append(self._unary(part, running))
        return running.joined(done)

    def _replies(self, direct: DirectCall, running: Running, call: UnaryCall[Any]) -> deque[Any]:
        """Triton's reply to every batch. One batch is common, and needs no generator and no future."""
        if direct.is_one:
            replies = deque([self._answer(running, direct.ask(*next(direct.spans())))])
            call.report(direct.count, direct.count)
            return replies
        replies = deque()
        for (_, stop), reply in self._batches(direct, running):
            replies.append(reply)
            call.report(stop, direct.count)
        return replies

    def _unary(self, call: UnaryCall[T], running: Running) -> T:
        """The service's one reply."""
        while True:
            try:
                if self._hedge_after_s is None:
                    reply, done = running.start(call.request, how="with_call")
                else:
                    done, other = self._first_of(partial(running.start, call.request, how="future"))
                    if other is not None:
                        other.cancel()
                    reply = done.result()
            except grpc.RpcError as error:
                self._wait(running.wait_s(error))
            else:
                result = call.read(reply, running.answered(done.trailing_metadata()))
                if call.progress is not None:
                    call.report(num_images(call.request), num_images(call.request))
                return result

    def _stream(self, call: StreamCall) -> Generator[Image, None, None]:
        with tracing.span(call.rpc, self.address) as headers:
            running = self._begin(call, headers)
            direct = self._prepare(running)
            progress = running.progress()
            if direct is not None:
                try:
                    for span, reply in self._batches(direct, running):
                        yield from progress.take_images(direct.images(*span, reply))
                    progress.finish()
                    return None
                except NotDirectError:
                    if not self._has_service:
                        yield from self._stream(running.again())
                        return None
                    progress.resume()
            try:
                yield from self._from_service(running, progress)
            except StaleLabelsError:
                yield from self._stream(running.again())

    def _from_service(self, running: Running, progress: Progress) -> Generator[Image, None, None]:
        """What is missing of a stream."""
        while True:
            replies = running.start(progress.request)
            try:
                for reply in replies:
                    yield from progress.take(reply, running.answered(replies.initial_metadata()))
                if progress.finish():
                    return None
            except grpc.RpcError as error:
                if progress.done:
                    return None
                self._wait(running.wait_s(error))
                progress.resume()
            finally:
                replies.cancel()

    def _prepare(self, running: Running) -> DirectCall | None:
        if (lookup := running.lookup()) is None:
            return running.prepare(None)
        return running.prepare(self._call(lookup))

    def _batches(
        self, direct: DirectCall, running: Running
    ) -> Generator[tuple[tuple[int, int], kserve.ModelInferResponse], None, None]:
        """Every batch of a call with Triton's reply, in order.

        Those under way, at most IN_FLIGHT, are left alone when the caller has seen enough: Triton takes a cancellation
        at the wrong moment badly.

        Raises:
            NotDirectError: Triton did not answer one of them.
        """
        spans = direct.spans()
        under_way: deque[tuple[tuple[int, int], Any]] = deque()
        while True:
            while len(under_way) < IN_FLIGHT and (span := next(spans, None)) is not None:
                under_way.append((span, running.ask_meanwhile(direct.ask(*span))))
            if not under_way:
                return
            first, future = under_way.popleft()
            try:
                if self._hedge_after_s is not None:
                    future, _ = self._first_of(partial(running.ask_meanwhile, direct.ask(*first)), future)
                reply = future.result()
                running.answered(None)
            except grpc.RpcError as error:
                ask = direct.ask(*first)
                self._wait(running.direct_wait_s(ask, error))
                reply = self._answer(running, ask)
            yield first, reply

    def _look_up(self, running: Running, lookup: Lookup[T]) -> T:
        """What Triton says of its models."""
        go_on = partial(next, lookup)
        try:
            while True:
                ask = go_on()
                try:
                    go_on = partial(lookup.send, self._answer(running, ask))
                except GanvasError as error:
                    go_on = partial(lookup.throw, error)
        except StopIteration as done:
            found: T = done.value
            return found

    def _answer(self, running: Running, ask: Ask) -> Any:
        """Triton's reply, at this attempt or a later one."""
        while True:
            try:
                if self._hedge_after_s is None:
                    reply = running.ask(ask)
                else:
                    reply = self._first_of(partial(running.ask_meanwhile, ask))[0].result()
            except grpc.RpcError as error:
                self._wait(running.direct_wait_s(ask, error))
            else:
                running.answered(None)
                return reply

    def _first_of(self, start: Callable[[], Any], first: Any = None) -> tuple[Any, Any]:
        assert self._hedge_after_s is not None
        return first_of(first or start(), start, self._hedge_after_s)

    def _wait(self, wait_s: float) -> None:
        self._closed.wait(wait_s)
        self._check_open()
