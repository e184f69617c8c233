"""Before the routes: what was made already is answered here, for a fraction of what a route costs.

ASGI by hand, since at thousands of requests a second the conveniences of a framework are most of the time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clients.studio.addresses import entity_tag
from clients.studio.catalog import Catalog
from clients.studio.memory import Cache

__all__ = ["File", "Front", "Headers"]

IMMUTABLE = "max-age=31536000, immutable"
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, and no script or style but the files of the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """What a permanent address names, and how HTTP describes it."""

    tag: str
    """ETag."""
    media_type: str
    body: bytes

    @classmethod
    def empty(cls, address: str, media_type: str) -> File:
        """What can be said of an address without its image."""
        return cls(tag=entity_tag(address), media_type=media_type, body=b"")

    def matches(self, if_none_match: str | None) -> bool:
        return if_none_match is not None and (self.tag in if_none_match or if_none_match.strip() == "*")

    def headers(self, caller: str | None) -> list[tuple[bytes, bytes]]:
        """What a caller with a key gets is not for the caches that others ask."""
        scope = "public" if caller is None else "private"
        return [
            (b"etag", self.tag.encode()),
            (b"cache-control", f"{scope}, {IMMUTABLE}".encode()),
            (b"x-content-type-options", b"nosniff"),
        ]

    def response(self, caller: str | None, *, vary: bool = False, modified: bool = True) -> Response:
        """
        Args:
            vary: whether the header Accept chose the format.
            modified: False: a 304.
        """
        response = Response(self.body if modified else b"", 200 if modified else 304)
        response.raw_headers = self.headers(caller)
        if vary:
            response.raw_headers.append((b"vary", b"Accept"))
        if modified:
            response.raw_headers.append((b"content-type", self.media_type.encode()))
            response.raw_headers.append((b"content-length", str(len(self.body)).encode()))
        return response


class Front:
    """
    Args:
        app: the routes.
        hosts: what a request may call this server by; None: anything.
    """

    def __init__(self, app: ASGIApp, cache: Cache, catalog: Catalog, *, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._cache = cache
        self._catalog = catalog
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = tag = host = None
        plain = scope["method"] in ("GET", "HEAD")
        for name, value in scope["headers"]:
            if name == b"authorization":
                caller = value.decode("latin-1")
            elif name == b"if-none-match":
                tag = value.decode("latin-1")
            elif name == b"host":
                host = value
            elif name == b"cache-control" and b"no-cache" in value:
                plain = False
        if self._hosts is not None and not self._called_right(host):
            await _misdirected(send)
            return
        if plain:
            query = scope["query_string"]
            address = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
            file = self._cache.get(address.decode("latin-1"))
            if isinstance(file, File) and self._catalog.admits(caller):
                await _send(file, file.matches(tag), caller, send)
                return
        await self._app(scope, receive, send)

    def _called_right(self, host: bytes | None) -> bool:
        """A page of another site whose name was made to point here must not read what is here."""
        assert self._hosts is not None
        try:
            return urlsplit(f"//{(host or b'').decode('latin-1')}").hostname in self._hosts
        except ValueError:
            return False


class Headers:
    """What every response of the routes says besides."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                names = {name for name, _ in headers}
                if b"x-content-type-options" not in names:
                    headers.append((b"x-content-type-options", b"nosniff"))
                if not any(name == b"content-type" and value.startswith(b"image/") for name, value in headers):
                    headers.append((b"content-security-policy", CONTENT_POLICY.encode()))
                    headers.append((b"referrer-policy", b"no-referrer"))
                    headers.append((b"cross-origin-opener-policy", b"same-origin"))
                if b"cache-control" not in names:  # the files of the page
                    headers.append((b"cache-control", b"no-cache"))
            await send(message)

        await self._app(scope, receive, send_with if scope["type"] == "http" else send)


async def _send(file: File, unchanged: bool, caller: str | None, send: Send) -> None:
    headers = file.headers(caller)
    if not unchanged:
        headers.append((b"content-type", file.media_type.encode()))
        headers.append((b"content-length", b"%d" % len(file.body)))
    await send({"type": "http.response.start", "status": 304 if unchanged else 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if unchanged else file.body})


async def _misdirected(send: Send) -> None:
    detail = "this server does not go by the name in the header Host. Start it with --allow-host NAME."
    fields: dict[str, Any] = {"type": "about:blank", "title": "Misdirected Request", "status": 421, "detail": detail}
    body = json.dumps(fields).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": body})
