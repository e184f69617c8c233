"""Every failure as application/problem+json (RFC 9457), with the service's own words.

The status of a gRPC code is the one of google.rpc.Code, which the gateway's JSON uses too.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus

import grpc
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ganvas_client import GanvasError, ResourceExhaustedError, UnavailableError

__all__ = ["BusyError", "of_error", "on_error", "on_http_error", "problem"]

logger = logging.getLogger("ganvas.studio")

STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class BusyError(ResourceExhaustedError):
    """The studio itself has too much to do."""

    retry_after_s = 1.0


def problem(
    status: int, detail: str, *, code: str = "", request_id: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """The response to a failed request.

    Args:
        code: gRPC's name of the failure.
        request_id: by it the service's log has the call.
    """
    title = HTTPStatus(status).phrase if status != 499 else "Client Closed Request"
    fields = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    fields |= {name: value for name, value in (("code", code), ("request_id", request_id)) if value}
    return Response(
        json.dumps(fields) + "\n",
        status,
        {"cache-control": "no-store", **(headers or {})},
        media_type="application/problem+json",
    )


def of_error(error: GanvasError, hint: str | None = None) -> Response:
    """
    Args:
        hint: what the studio itself knows about a service that is away.
    """
    headers = {}
    if isinstance(error, ResourceExhaustedError) and error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, UnavailableError):
        headers["retry-after"] = "1"
    if error.code is grpc.StatusCode.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer realm="ganvas"'
    detail = hint if hint and isinstance(error, UnavailableError) else str(error)
    status = STATUSES.get(error.code, 500)
    return problem(status, detail, code=error.code.name, request_id=error.request_id, headers=headers)


async def on_http_error(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path!r:.200}. /v1/openapi.json lists the addresses."
    elif error.status_code == 405:
        detail = f"{request.method!r:.20} is not for this address; there are {(error.headers or {}).get('Allow', '')}."
    else:
        detail = error.detail
    return problem(error.status_code, detail, headers=error.headers)


async def on_error(request: Request, error: Exception) -> Response:
    """A defect of ours: logged with an id, of which the caller gets the id alone."""
    number = secrets.token_hex(4)
    logger.error("error %s at %s", number, request.url.path[:200], exc_info=error)
    return problem(500, f"the studio failed; its log says why under error {number}.", code="INTERNAL")
