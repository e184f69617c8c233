"""One call over its attempts: what must be known first, what to send next, and to whom."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import grpc

from ganvas_client import calls, triton
from ganvas_client.attempts import REQUEST_ID, Attempts
from ganvas_client.calls import StreamCall, UnaryCall
from ganvas_client.direct import (
    DirectCall,
    KnownModel,
    NotDirectError,
    can_go,
    check_memory,
    checked,
    is_final,
    is_rate_quota,
)
from ganvas_client.errors import nobody_there
from ganvas_client.parts import joined, split
from ganvas_client.results import Image, Images, ModelInfo, Timing
from ganvas_client.streams import Progress, num_images, work
from ganvas_core.names import NAMES_VERSION, Role

if TYPE_CHECKING:
    from ganvas_client.transport import Client

__all__ = ["Running", "StaleLabelsError"]

MANY = 256
"""A call for more images asks first how many the service takes in one request."""


class StaleLabelsError(Exception):
    """The names of a call's labels have to be looked up anew."""


class Running:
    """One call over its attempts."""

    def __init__(
        self,
        client: Client,
        call: UnaryCall[Any] | StreamCall,
        attempts: Attempts,
        metadata: list[tuple[str, str | bytes]],
        request_id: str,
    ) -> None:
        self.attempts = attempts
        self.request_id = request_id
        self._call: UnaryCall[Any] | StreamCall = call
        self._whose = call.whose or (call.rpc, call.timeout_s)
        self._client = client
        self._goes_direct = client._direct and can_go(call)
        self._model: KnownModel | None = None
        self._labels_digest = ""
        """Of the file that the caller's names of labels were looked up in, if the service is to answer from it."""
        self._may_be_stale = False
        """Whether the version is the default as an earlier call knew it, and nothing has come of it yet."""
        self._is_many = False
        """Whether Triton takes it as several requests, and the service would take it as one."""
        self._role: Role | None = None if client._has_service else triton.role_of(call)
        self._started_s = time.perf_counter()
        if self._goes_direct:
            metadata.append((NAMES_VERSION, "1"))
        self._metadata = metadata

    def asks_triton(self) -> triton.Lookup[Any] | None:
        """How to answer a call for models where there is no service; None: it is another call."""
        call, address = self._call, self._client.address
        if self._client._has_service or call.rpc not in ("GetModel", "ListModels"):
            return None
        if call.rpc == "ListModels":
            return triton.all_models(address)
        assert isinstance(call, UnaryCall)
        return triton.one_model(call.request, call.role or "decode", address)

    def lookup(self) -> UnaryCall[ModelInfo] | None:
        """The call that tells what must be known of the model first; None: nothing must, or all is known."""
        call, client = self._call, self._client
        is_large = call.rpc in ("Sample", "SampleStream", "Decode", "Encode") and num_images(call.request) > MANY
        if not (self._goes_direct or is_large or call.named_labels):
            return None
        self._model = client._models.get(call.request, self._role)
        if self._model is not None:
            self._may_be_stale = not call.request.version
            return None
        return self._lookup()

    def lookup_limits(self) -> UnaryCall[ModelInfo] | None:
        """The call that tells whether the service refused this one for its number of images; None: it did not."""
        if self._model is not None or num_images(self._call.request) < 2:
            return None
        return self._lookup()

    def _lookup(self) -> UnaryCall[ModelInfo]:
        return dataclasses.replace(
            calls.lookup(self._call), timeout_s=self.attempts.remaining_s(), role=self._role, whose=self._whose
        )

    def learn(self, info: ModelInfo) -> None:
        """Note what a lookup told."""
        self._model = self._client._models.put(self._call.request, info, self._role)

    def prepare(self, info: ModelInfo | None) -> DirectCall | None:
        """Make the call ready to be sent; gives it as batches for Triton, if that may answer it.

        Args:
            info: what `lookup` told.
        Raises:
            InvalidArgumentError: a field is wrong.
        """
        call = self._call
        if info is not None:
            self.learn(info)
        if call.named_labels:
            assert self._model is not None
            calls.fill_labels(call, self._model.info)
            # A name's index is right for one file. The second time it has just been looked up, and servers may differ.
            self._labels_digest = "" if call.is_again or call.request.digest else self._model.info.digest
        if self._model is not None:
            check_memory(call, self._model)
        if not self._goes_direct:
            return None
        assert self._model is not None
        direct = DirectCall(call, self._model, self.request_id)
        self._is_many = not direct.is_one and call.rpc in ("Sample", "SampleStream", "Walk")
        return direct

    @property
    def is_too_large(self) -> bool:
        """Whether the service is known to take fewer images in one request."""
        if self._model is None or self._call.rpc not in ("Sample", "Decode", "Encode"):
            return False
        return num_images(self._call.request) > self._model.info.limits.max_count

    def as_stream(self) -> Progress | None:
        """Turn a Sample that is too large into a stream; None: it is another call."""
        call = self._call
        if call.rpc != "Sample":
            return None
        self._call = StreamCall(rpc="SampleStream", request=call.request, timeout_s=call.timeout_s)
        return self.progress()

    def parts(self, done: list[Any]) -> Iterator[UnaryCall[Any]]:
        """A Decode or Encode that is too large, as several. See ganvas_client.parts.split."""
        assert self._model is not None
        assert isinstance(self._call, UnaryCall)
        return split(self._call, self._model, done)

    def progress(self) -> Progress:
        """What a stream has to bring, in as many requests as the service needs.

        Raises:
            InvalidArgumentError: a field of a request that is to be split is wrong.
        """
        call, most = self._call, None
        if self._model is not None and call.rpc == "SampleStream":
            most = self._model.max_stream_count
            if num_images(call.request) > most:
                checked(call, self._model)
        return Progress(call.request, most)

    def gathered(self, images: list[Image]) -> Any:
        """The result of a Sample that came as a stream."""
        images.sort(key=lambda image: image.index)
        return Images(info=images[0].info, timing=self._timing, images=tuple(images))

    def joined(self, done: list[Any]) -> Any:
        """The result of a Decode or Encode that came in parts."""
        return joined(done, self._timing)

    @property
    def _timing(self) -> Timing:
        """Of what came in several requests."""
        total_us = int((time.perf_counter() - self._started_s) * 1e6)
        return Timing(total_us=total_us, queue_us=0, inference_us=0, encode_us=0)

    def start(self, request: Any, *, how: Literal["with_call", "future"] | None = None) -> Any:
        """Make the next attempt at the service.

        Args:
            how: of a channel of grpc, which method of gRPC's callable to use.
        """
        if self._labels_digest and not request.digest:
            pinned = type(request)()
            pinned.CopyFrom(request)
            pinned.digest = self._labels_digest
            request = pinned
        method = getattr(self._client._line.service, self._call.rpc)
        metadata = [*self._metadata, *work(request)]
        return self._send(method if how is None else getattr(method, how), request, metadata)

    def ask(self, ask: triton.Ask) -> Any:
        """Send one request to Triton: its reply, or with grpc.aio the call to await."""
        return self._send(self._client._line.triton[ask.method], ask.request, self._metadata)

    def ask_meanwhile(self, ask: triton.Ask) -> Any:
        """The same as a future, without waiting for it."""
        under_way = self._client._under_way
        future = self._send(self._client._line.triton[ask.method].future, ask.request, self._metadata)
        under_way.add(future)
        future.add_done_callback(under_way.discard)
        return future

    def _send(self, method: Callable[..., Any], request: Any, metadata: list[tuple[str, str | bytes]]) -> Any:
        self._client._check_open()
        try:
            return method(
                request,
                timeout=self.attempts.remaining_s(),
                metadata=metadata,
                wait_for_ready=self._client._wait_for_ready,
            )
        except ValueError:  # gRPC's, of a channel that another thread has closed meanwhile
            self._client._check_open()
            raise

    def wait_s(self, error: grpc.RpcError) -> float:
        """How long to wait before the service is asked again.

        Raises:
            StaleLabelsError: its model is another one than that of which the caller's labels were looked up.
            GanvasError: there is no further attempt.
        """
        if self._labels_digest and error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
            self._client._models.forget(self._call.request, self._role)
            raise StaleLabelsError from None
        return self.attempts.wait_s(error)

    def direct_wait_s(self, ask: triton.Ask, error: grpc.RpcError) -> float:
        """How long to wait before something is asked of Triton again.

        Raises:
            NotDirectError: the service is to answer instead; or, without one, the call is to be made again, since the
                version that it was sent to may be gone.
            GanvasError: there is no further attempt.
        """
        if ask.once:
            raise self.attempts.failure(error)
        if self._is_many and self._client._has_service and is_rate_quota(error):
            raise NotDirectError from None
        if is_final(error):
            return self.attempts.wait_s(error)
        if not self._client._has_service:
            if self._model is not None:
                self._client._models.forget(self._call.request, self._role)
            if self._may_be_stale and not nobody_there(error):
                raise NotDirectError from None
            return self.attempts.wait_s(error)
        self._client._models.forget(self._call.request)
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            self._client._direct = False
        raise NotDirectError from None

    def again(self) -> Any:
        """The call, to be made again in the time that is left."""
        return dataclasses.replace(self._call, timeout_s=self.attempts.remaining_s(), whose=self._whose, is_again=True)

    def answered(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
        """Note that a reply came; gives the request id, the service's if it says one in its metadata."""
        self.attempts.answered()
        self._may_be_stale = False
        return next((str(value) for key, value in metadata or () if key == REQUEST_ID), self.request_id)
