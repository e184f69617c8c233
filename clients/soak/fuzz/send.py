"""Sends a case and says how it was answered."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import itertools
import re
import socket

import grpc

from clients.soak.fuzz.cases import Case, Rpc
from clients.soak.fuzz.http import HttpRequest

__all__ = ["ANSWER_S", "Sender"]

ANSWER_S = 20.0
"""A case without an answer after so long hangs."""
STATUS = {code.value[0]: code.name for code in grpc.StatusCode}
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
RAW_ANSWER_S = 1.0
"""Raw bytes may be the beginning of something: nothing is waited for longer."""


class Sender:
    """Connections to one server. Any thread may use it.

    Args:
        service: host:port of the typed service.  kserve: of KServe's gRPC.  http: of KServe's HTTP.
    """

    def __init__(self, *, service: str, kserve: str, http: str) -> None:
        self._service, self._http = service, http
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channels = {
            address: grpc.insecure_channel(address, options=options) for address in dict.fromkeys((service, kserve))
        }
        self._kserve = kserve

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def send(self, case: Case) -> tuple[str, str]:
        """The answer as `is_proper` reads it, and its words. "hang" is no proper one."""
        request = case.request
        if isinstance(request, Rpc):
            return self._call(request, self._kserve if case.family == "kserve" else self._service)
        if isinstance(request, HttpRequest):
            if case.family == "web":
                return _ask_web(request, self._service)
            return _ask(request, self._http)
        return _write(request, self._service)

    def _call(self, request: Rpc, address: str) -> tuple[str, str]:
        call = self._channels[address].stream_stream(request.method, None, None)
        replies = call(iter([request.payload] * request.copies), timeout=ANSWER_S)
        try:
            # A stream that was understood may never end: its first reply is an answer.
            list(itertools.islice(replies, 1 if request.streamed else 2))
            replies.cancel()  # type: ignore[no-untyped-call]
        except grpc.RpcError as error:
            code = error.code()
            return "hang" if code == grpc.StatusCode.DEADLINE_EXCEEDED else code.name, str(error.details())
        return "OK", ""


def _ask_web(request: HttpRequest, address: str) -> tuple[str, str]:
    """The gRPC status in the headers or in the last frame of the body; the HTTP status where that is not 200."""
    text = request.headers["content-type"].startswith("application/grpc-web-text")
    if text:
        request = dataclasses.replace(request, body=base64.b64encode(request.body))
    answer, words = _ask(request, address)
    if answer != "200":
        return answer, words
    if text:
        # Every frame may be encoded on its own, each with its own padding.
        words += " ".join(base64.b64decode(part).decode("latin-1") for part in BASE64.findall(words.split("\n", 1)[-1]))
    status = re.search(r"grpc-status[: ]+(\d+)", words)
    return STATUS[int(status[1])] if status else "no grpc-status", words


def _ask(request: HttpRequest, address: str) -> tuple[str, str]:
    """The HTTP status."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S)
    try:
        connection.request(request.method, request.path, body=request.body or None, headers=request.headers)
        reply = connection.getresponse()
        text = reply.read(2**20).decode("latin-1")
        return str(reply.status), f"grpc-status {reply.headers.get('grpc-status')}\n{text[-2000:]}"
    except TimeoutError:
        return "hang", ""
    except (OSError, http.client.HTTPException) as error:
        return "closed", repr(error)
    finally:
        connection.close()


def _write(data: bytes, address: str) -> tuple[str, str]:
    """An HTTP/1 status, or "closed"."""
    host, _, port = address.rpartition(":")
    received = b""
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_S) as connection:
            connection.sendall(data)
            connection.settimeout(RAW_ANSWER_S)
            while len(received) < 4096 and (chunk := connection.recv(4096)):
                received += chunk
    except OSError as error:
        if isinstance(error, ConnectionRefusedError):
            return "refused", repr(error)
    status = re.match(rb"HTTP/1\.[01] (\d{3})", received)
    return status[1].decode() if status else "closed", ""
