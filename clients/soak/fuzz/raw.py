"""Bytes for the port itself: HTTP/1 that is none, HTTP/2 frames out of order, floods of small frames."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

__all__ = ["HEADERS", "POST", "PREFACE", "RST_STREAM", "SETTINGS", "frame", "raw_bytes"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

POST = b"\x83\x86\x44\x0b/v2/nothing\x41\x09localhost"
"""HPACK: POST http, a path, an authority."""


def raw_bytes(rng: random.Random) -> bytes:
    """What one connection sends."""
    return rng.choice(MAKERS)(rng)


def frame(kind: int, flags: int, stream: int, payload: bytes, *, length: int | None = None) -> bytes:
    """An HTTP/2 frame. length: what its header says, if not the truth."""
    said = len(payload) if length is None else length
    return struct.pack(">I", said)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _frames(rng: random.Random) -> bytes:
    """Any frames."""
    frames = [
        frame(
            rng.randrange(12),
            rng.randrange(256),
            rng.choice((0, 1, 2, 3, 2**31 - 1)),
            rng.randbytes(rng.randint(0, 64)),
            length=rng.choice((None, None, 0, 5, 2**24 - 1)),
        )
        for _ in range(rng.randint(1, 30))
    ]
    return PREFACE + frame(SETTINGS, 0, 0, b"") + b"".join(frames)


def _rapid_reset(rng: random.Random) -> bytes:
    """Streams opened and reset at once."""
    reset = struct.pack(">I", 8)
    count = rng.randint(10, 2000)
    pairs = (frame(HEADERS, 4, 2 * i + 1, POST) + frame(RST_STREAM, 0, 2 * i + 1, reset) for i in range(count))
    return PREFACE + frame(SETTINGS, 0, 0, b"") + b"".join(pairs)


def _continuations(rng: random.Random) -> bytes:
    """Headers that never end."""
    more = frame(CONTINUATION, 0, 1, b"\x00\x01a\x7f\x00" + b"b" * 126 + b"\x00" * 4)
    return PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 0, 1, POST) + more * rng.randint(10, 3000)


def _flood(rng: random.Random) -> bytes:
    """Frames that each want an answer, or none."""
    one = rng.choice(
        (
            frame(PING, 0, 0, bytes(8)),
            frame(SETTINGS, 0, 0, b""),
            frame(PRIORITY, 0, 1, bytes(5)),
            frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)),
            frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1)),
            frame(DATA, 0, 1, b""),
        )
    )
    return PREFACE + frame(SETTINGS, 0, 0, b"") + one * rng.randint(10, 5000)


def _hpack_bomb(rng: random.Random) -> bytes:
    """One large header in the table, named again and again."""
    stored = b"\x40\x01a\x7f" + b"\x81\x1e" + b"c" * 4000
    block = POST + stored + b"\xbe" * rng.randint(100, 12_000)
    return PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 5, 1, block[:16_384])


def _settings(rng: random.Random) -> bytes:
    """Settings at their limits and beyond."""
    payload = b"".join(
        struct.pack(">HI", rng.randrange(10), rng.choice((0, 1, 2**14 - 1, 2**31, 2**32 - 1))) for _ in range(20)
    )
    return PREFACE + frame(SETTINGS, 0, 0, payload) + frame(HEADERS, 5, 1, POST)


def _http1(rng: random.Random) -> bytes:
    """Requests that two parsers may read in two ways, or none can."""
    smuggled = b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\n\r\n"
    return rng.choice(
        (
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /v2\r\n\r\n",
            b"GET /v2 HTTP/1.1\r\n\r\n",
            b"GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /v2 HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
            b"GET /v2 HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
            b"GET /v2\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /v2/models/tiny-gan/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
            b"POST /v2/models/tiny-gan/infer HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            b"POST /v2/models/tiny-gan/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"POST /v2/models/tiny-gan/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff0",
            b"CONNECT 127.0.0.1:8000 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET http://127.0.0.1:8000/v2/repository/index HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /v2 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
        )
    )


MAKERS: tuple[Callable[[random.Random], bytes], ...] = (
    _frames,
    _rapid_reset,
    _continuations,
    _flood,
    _hpack_bomb,
    _settings,
    _http1,
    _http1,
    lambda rng: rng.randbytes(rng.randint(1, 5000)),
    lambda rng: PREFACE[: rng.randrange(len(PREFACE))],
    lambda rng: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(600),  # TLS to a plaintext port
)
