"""What Sampler and AsyncSampler share: the channel, its credentials, and one call over its attempts."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, ClassVar, Literal, NoReturn, Self

import grpc
import grpc.aio

from ganvas.v1.sampler_pb2_grpc import SamplerStub
from ganvas_client import calls, triton
from ganvas_client.addresses import Addresses, shown, target_of
from ganvas_client.arguments import flag, header_list, seconds
from ganvas_client.attempts import REQUEST_ID, Attempts, Connection
from ganvas_client.calls import StreamCall, UnaryCall
from ganvas_client.direct import (
    DirectCall,
    KnownModel,
    KnownModels,
    NotDirectError,
    can_go,
    check_memory,
    checked,
    is_final,
    is_rate_quota,
    refuse,
)
from ganvas_client.errors import CallCancelledError, InvalidArgumentError, nobody_there
from ganvas_client.parts import joined, split
from ganvas_client.results import Image, Images, ModelInfo, Timing
from ganvas_client.streams import Progress, num_images, work
from ganvas_core.names import DEFAULT_ADDRESS, DEFAULT_TRITON, MAX_MESSAGE_BYTES, NAMES_VERSION, Role

__all__ = ["Client", "Running", "StaleLabelsError"]

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # they are ours, which know about streams and the service's hints
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long to wait for a connection: a machine that is busy for some seconds is not a server that is away.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A call on a connection that died without a word must not wait for its deadline.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


MANY = 256
"""A call for more images asks first how many the service takes in one request."""


class StaleLabelsError(Exception):
    """The names of a call's labels have to be looked up anew."""


class Line:
    """A channel and the methods that are called on it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.service = SamplerStub(channel)  # type: ignore[no-untyped-call]
        self.triton = {
            method: channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString,
            )
            for method, (request, reply) in triton.METHODS.items()
        }


class Client:
    """A channel to one address, and what every call on it sends along."""

    _transport: ClassVar[ModuleType]
    """Either grpc or grpc.aio."""

    def __init__(
        self,
        address: Addresses = DEFAULT_ADDRESS,
        *,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        wait_for_ready: bool = False,
        metadata: Callable[[], Iterable[tuple[str, str]]] | None = None,
        hedge_after_s: float | None = None,
        direct: bool = True,
    ) -> None:
        """
        Args:
            address: host:port of the gateway, or of the sampling service itself. A list: calls go to each in turn, as
                long as it is connected and says that it serves; with TLS, the certificate of each must be for the host
                of the first. A list of one: to every address that its name has.
            api_key: of the gateway, sent as `authorization: Bearer KEY`. Over plaintext whoever listens can read it.
            credentials: grpc.ssl_channel_credentials(…) for TLS, with key and certificate for mTLS. None: plaintext,
                for loopback and trusted networks.
            wait_for_ready: wait for a service that is not up yet, until the deadline, instead of failing at once.
            metadata: asked before every call for metadata to send along, such as a traceparent.
            hedge_after_s: ask once more, of the next server, what is not answered by then, and take what comes first.
                About the 95th percentile of your calls is a good value. Streams of the service are not asked twice.
            direct: take raw images and posteriors from Triton, through the same address, where it answers there: the
                same bytes, sooner. False: everything from the service.
        """
        if api_key is not None and not (
            isinstance(api_key, str) and api_key.isascii() and api_key.isprintable() and api_key.split() == [api_key]
        ):
            raise InvalidArgumentError("api_key must be printable ASCII without spaces.")
        if credentials is not None and not isinstance(credentials, grpc.ChannelCredentials):
            raise InvalidArgumentError(
                f"credentials must be grpc.ssl_channel_credentials(…), or None for plaintext; got {credentials!r:.80}."
            )
        if metadata is not None and not callable(metadata):
            raise InvalidArgumentError(f"metadata must be a function that gives headers; got {metadata!r:.80}.")
        self._target, self._balancing = target_of(address)
        self.address = shown(address)
        self._hedge_after_s = seconds("hedge_after_s", hedge_after_s)
        self._api_key = api_key
        self._credentials = credentials
        self._wait_for_ready = flag("wait_for_ready", wait_for_ready)
        self._metadata = metadata
        self._direct = flag("direct", direct)
        """Whether Triton answers at the address; set to False once it did not."""
        self._has_service = True
        """Whether a sampling service answers at the address, or Triton alone."""
        self._models = KnownModels()
        self._connection = Connection(address=self.address, tls=credentials is not None, wait_for_ready=wait_for_ready)
        self._closed = threading.Event()
        self._making_line = threading.Lock()
        self._made_line: Line | None = None
        self._under_way: set[Any] = set()
        """Requests inside Triton that end even if nobody waits for them: garbage collection would cancel them there."""

    @classmethod
    def direct(
        cls,
        address: Addresses = DEFAULT_TRITON,
        *,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        wait_for_ready: bool = False,
        metadata: Callable[[], Iterable[tuple[str, str]]] | None = None,
        hedge_after_s: float | None = None,
    ) -> Self:
        """A connection to any Triton that serves exported models, without a sampling service.

        The methods, their checks and the bytes of images and posteriors are the same. It learns what a model is from
        Triton's own configuration of it, and cannot make or read image files.

        Args:
            address: host:port of its gRPC endpoint, or of a gateway; or a list of them.
            api_key, credentials, wait_for_ready, metadata, hedge_after_s: as of the class.
        """
        client = cls(
            address,
            api_key=api_key,
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            metadata=metadata,
            hedge_after_s=hedge_after_s,
        )
        client._has_service = False
        client._connection.server = "Triton"
        return client

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: it is a connection. Hand over its address, and make "
            "another one there."
        )

    @property
    def _line(self) -> Line:
        """Made on first use: a channel of grpc.aio belongs to the event loop that runs then.

        Raises:
            CallCancelledError: the client was closed before.
        """
        with self._making_line:  # threads share a client
            if self._made_line is None:
                self._check_open()
                self._made_line = Line(self._make_channel())
            return self._made_line

    def _end_line(self) -> Any:
        """Take no more calls; gives the channel to close, if there is one."""
        with self._making_line:
            self._closed.set()
            return None if self._made_line is None else self._made_line.channel

    def _make_channel(self) -> Any:
        options = [*CHANNEL_OPTIONS, *self._balancing]
        if self._credentials is None:
            return self._transport.insecure_channel(self._target, options=options)
        return self._transport.secure_channel(self._target, self._credentials, options=options)

    def _begin(self, call: UnaryCall[Any] | StreamCall, headers: Iterable[tuple[str, str]]) -> Running:
        """A call that is about to be made.

        Args:
            headers: of its trace.
        Raises:
            UnimplementedError: there is no sampling service, and Triton cannot do this.
        """
        self._check_open()
        if not self._has_service:
            refuse(call)
        request_id = str(uuid.uuid4())
        metadata: list[tuple[str, str | bytes]] = [(REQUEST_ID, request_id), *headers]
        if self._metadata is not None:
            metadata += header_list(self._metadata())
        if self._api_key is not None:
            metadata.append(("authorization", f"Bearer {self._api_key}"))
        rpc, told_s = call.whose or (call.rpc, call.timeout_s)
        attempts = Attempts(
            self._connection, rpc=rpc, timeout_s=call.timeout_s, told_timeout_s=told_s, request_id=request_id
        )
        return Running(self, call, attempts, metadata, request_id)

    def _check_open(self) -> None:
        """
        Raises:
            CallCancelledError: the client was closed.
        """
        if self._closed.is_set():
            raise CallCancelledError(
                f"the client of {self.address} was closed before the call was done. Make another one."
            )


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
