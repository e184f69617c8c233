"""What there is: the models, their certificates, and directions in their latent spaces."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clients.studio.addresses import Reference
from clients.studio.endpoints.requests import FRESH, begin
from clients.studio.endpoints.shared import Shared
from ganvas_client import ModelInfo, NotFoundError

__all__ = ["Models"]


class Models:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def models(self, request: Request) -> Response:
        begin(request).end()
        found = await self._shared.catalog.models()
        models = [_described(info) for info in sorted(found, key=lambda info: info.name)]
        return JSONResponse({"models": models}, headers=FRESH)

    async def model(self, request: Request) -> Response:
        info = await self._shared.info(request)
        certificate = info.certificate()
        try:
            directions = (await self._shared.directions(info)).sha256
        except NotFoundError:
            directions = None
        described = _described(info) | {
            "truncation": certificate.truncation,
            "created": certificate.created,
            "directions": directions,
            "recent": None if info.recent is None else dataclasses.asdict(info.recent),
        }
        return JSONResponse(described, headers=FRESH)

    async def certificate(self, request: Request) -> Response:
        info = await self._shared.info(request)
        return Response(info.certificate_json, media_type="application/json", headers=FRESH)

    async def directions(self, request: Request) -> Response:
        found = await self._shared.directions(await self._shared.info(request))
        return Response(found.to_json(), media_type="application/json", headers=FRESH)


def _described(info: ModelInfo) -> dict[str, Any]:
    """A model, as JSON says it."""
    return {
        "name": info.name,
        "version": info.version,
        "versions": info.versions,
        "digest": info.digest,
        "address": Reference(name=info.name, digest=info.digest).path,
        "family": info.family,
        "height": info.height,
        "width": info.width,
        "channels": info.channels,
        "latent_shape": info.latent_shape,
        "labels": info.labels,
        "can_encode": info.can_encode,
        "precision": info.precision,
        "golden": info.golden,
        "limits": dataclasses.asdict(info.limits),
    }
