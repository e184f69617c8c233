"""What Sampler and AsyncSampler share: the channel, its credentials, and what every call on it sends along."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ClassVar, NoReturn, Self

import grpc
import grpc.aio

from ganvas.v1.sampler_pb2_grpc import SamplerStub
from ganvas_client import triton
from ganvas_client.addresses import Addresses, shown, target_of
from ganvas_client.arguments import flag, header_list, seconds
from ganvas_client.attempts import REQUEST_ID, Attempts, Connection
from ganvas_client.calls import StreamCall, UnaryCall
from ganvas_client.direct import KnownModels, refuse
from ganvas_client.errors import CallCancelledError, InvalidArgumentError
from ganvas_client.running import Running
from ganvas_core.names import DEFAULT_ADDRESS, DEFAULT_TRITON, MAX_MESSAGE_BYTES

__all__ = ["Client", "Line"]

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
