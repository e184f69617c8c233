"""The routes, and what stands around them. What was answered before does not come this far: see Front."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from clients.studio.endpoints.latents import Latents
from clients.studio.endpoints.models import Models
from clients.studio.endpoints.several import SeveralImages
from clients.studio.endpoints.shared import Shared
from clients.studio.endpoints.single import SingleImages
from clients.studio.front import Front, Headers
from clients.studio.problems import of_error, on_error, on_http_error, problem
from ganvas_client import AsyncSampler, GanvasError

__all__ = ["STATIC", "Settings", "make_app"]

STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the app needs to know."""

    repository: Path | None = None
    """Where directions lie beside the models."""
    cache_bytes: int = 256 * 2**20
    cors_origins: tuple[str, ...] = ()
    hosts: frozenset[str] | None = None
    """What a request may call this server by; None: anything."""
    hint: Callable[[], str | None] = lambda: None
    """What is known about a service that is away."""


def make_app(sampler: AsyncSampler, settings: Settings) -> ASGIApp:
    """
    Args:
        sampler: made with catalog.metadata; closed when the app ends.
    """
    shared = Shared(sampler, repository=settings.repository, cache_bytes=settings.cache_bytes)

    async def on_ganvas_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GanvasError)
        return of_error(error, settings.hint())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        shared.workers.close()
        await sampler.close()

    app = Starlette(
        routes=_routes(shared),
        middleware=[Middleware(Headers)],
        lifespan=lifespan,
        exception_handlers={
            HTTPException: on_http_error,
            GanvasError: on_ganvas_error,
            ClientDisconnect: on_gone,
            Exception: on_error,
        },
    )
    app.router.redirect_slashes = False
    front: ASGIApp = Front(app, shared.cache, shared.catalog, hosts=settings.hosts)
    if settings.cors_origins:
        front = CORSMiddleware(
            front,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["ETag", "Location", "Retry-After"],
            max_age=86400,
        )
    return front


def _routes(shared: Shared) -> list[BaseRoute]:
    models, single, several, latents = Models(shared), SingleImages(shared), SeveralImages(shared), Latents(shared)
    model = "/v1/models/{reference}"
    return [
        Route(model + "/images/{file}", single.image),
        Route(model + "/pictures/{file}", single.image),
        Route(model + "/decode/{file}", single.latent_image),
        Route(model + "/sheets/{file}", several.sheet),
        Route(model + "/walks/{file}", several.walk),
        Route(model + "/latents/{file}", latents.latents),
        Route("/", page),
        Route("/v1/openapi.json", openapi),
        Route("/v1/models", models.models),
        Route(model, models.model),
        Route(model + "/certificate", models.certificate),
        Route(model + "/directions", models.directions),
        Route(model + "/decode", latents.decode, methods=["POST"]),
        Route(model + "/encode", latents.encode, methods=["POST"]),
        Route(model + "/walks", several.walk_of_latents, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


async def page(request: Request) -> Response:
    return Response((STATIC / "index.html").read_bytes(), media_type="text/html", headers={"cache-control": "no-cache"})


async def openapi(request: Request) -> Response:
    data = (STATIC / "openapi.json").read_bytes()
    return Response(data, media_type="application/json", headers={"cache-control": "no-cache"})


async def on_gone(request: Request, error: Exception) -> Response:
    return problem(499, "the client closed the connection.", code="CANCELLED")
