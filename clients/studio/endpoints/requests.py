"""Requests as the endpoints take them: query, body, and a client that may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from clients.studio.addresses import Query
from clients.studio.catalog import CALLER
from ganvas_client import DeadlineExceededError, InvalidArgumentError
from ganvas_core.cli import describe_validation_error

__all__ = ["FRESH", "KEPT_NOWHERE", "begin", "json_body", "read_body", "redirect", "split", "unless_gone"]

T = TypeVar("T")

MAX_JSON_BYTES = 16 * 2**20
READ_S = 30.0
FRESH = {"cache-control": "no-cache"}
KEPT_NOWHERE = {"cache-control": "no-store"}


def begin(request: Request) -> Query:
    """The query of a request; calls to the service are made as its caller from here on."""
    CALLER.set(request.headers.get("authorization"))
    return Query(request.query_params.multi_items())


def split(name: str) -> tuple[str, str]:
    """`42.png` as stem and ending."""
    stem, _, suffix = name.rpartition(".")
    return (stem, suffix.lower()) if stem else (suffix, "")


def redirect(address: str, *, vary: bool) -> Response:
    """From a short address to the permanent one. What is served now may be another a moment later."""
    headers = FRESH | ({"vary": "Accept"} if vary else {})
    return RedirectResponse(address, 307, headers)


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        InvalidArgumentError: longer than `most` bytes; no more is read then.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(READ_S):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise InvalidArgumentError(f"the body must be at most {most / 2**20:.0f} MiB.")
                parts.append(part)
    except TimeoutError:
        raise DeadlineExceededError(f"the body did not arrive within {READ_S:.0f} s.") from None
    return b"".join(parts)


async def json_body(request: Request, kind: type[T]) -> T:
    """The JSON body of a request, checked.

    Raises:
        InvalidArgumentError: not JSON, or a field is wrong.
    """
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise InvalidArgumentError("the body must be JSON, with the header Content-Type: application/json.")
    data = await read_body(request, MAX_JSON_BYTES)
    try:
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise InvalidArgumentError(f"the body is not JSON: {error.errors()[0]['ctx']['error']}.") from None
        raise InvalidArgumentError(f"the body: {describe_validation_error(error)}") from None


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is cancelled if the client closes the connection.

    Raises:
        ClientDisconnect: it did.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    made, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({made, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not made.done():
            raise ClientDisconnect
        return made.result()
    finally:
        made.cancel()
        leaving.cancel()
