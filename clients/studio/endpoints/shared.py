"""What the endpoints share: the service and what is remembered of it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clients.studio import addresses
from clients.studio.addresses import Animation
from clients.studio.catalog import CALLER, Catalog
from clients.studio.endpoints.requests import begin, unless_gone
from clients.studio.front import File
from clients.studio.images import Imager
from clients.studio.memory import Cache, Once
from clients.studio.sheets import Workers
from ganvas_client import AsyncSampler, ModelInfo, NotFoundError
from ganvas_core.directions import DIRECTIONS_FILE, Directions, DirectionsError
from ganvas_core.formats import FileFormat

__all__ = ["Shared"]


class Shared:
    """
    Args:
        sampler: made with catalog.metadata.
        repository: where directions lie beside the models.
    """

    def __init__(self, sampler: AsyncSampler, *, repository: Path | None, cache_bytes: int) -> None:
        self.sampler = sampler
        self.cache = Cache(cache_bytes)
        self.catalog = Catalog(sampler)
        self.imager = Imager(sampler)
        self.workers = Workers()
        self._once = Once()
        self._repository = repository

    async def info(self, request: Request) -> ModelInfo:
        """The model of a request without a query."""
        begin(request).end()
        return await self.catalog.model(addresses.parse_reference(request.path_params["reference"]))

    async def file(
        self,
        request: Request,
        address: str,
        file_format: FileFormat | Animation,
        make: Callable[[], Coroutine[Any, Any, bytes]],
        *,
        vary: bool = False,
    ) -> Response:
        """What a permanent address names: not modified, from memory, or made, by whoever asks first."""
        file = File.empty(address, addresses.MEDIA_TYPES[file_format])
        if file.matches(request.headers.get("if-none-match")):
            return file.response(CALLER.get(), vary=vary, modified=False)
        anew = "no-cache" in request.headers.get("cache-control", "")
        known = None if anew else self.cache.get(address)
        if isinstance(known, File):
            await self.catalog.check_caller()
            return known.response(CALLER.get(), vary=vary)

        async def make_and_keep() -> File:
            """In one piece, or who asks between the two would have it made again."""
            body = await make()
            made = dataclasses.replace(file, body=body)
            self.cache.put(address, made, len(body))
            return made

        key = (CALLER.get(), address)
        made = await unless_gone(request, self._once.get(key, make_and_keep) if not anew else make_and_keep())
        return made.response(CALLER.get(), vary=vary)

    async def directions(self, info: ModelInfo) -> Directions:
        """
        Raises:
            NotFoundError: none were found, or for another file; says how to find them.
        """
        command = f"./ganvas directions {info.name}"
        if self._repository is None:
            raise NotFoundError("this studio has no repository to read directions from; start it with --repository.")
        path = self._repository / info.name / info.version / DIRECTIONS_FILE
        if not path.is_file():
            raise NotFoundError(f"no directions were found for {info.name} yet. Find them: {command}.")
        try:
            found = await asyncio.to_thread(Directions.read, path)
        except DirectionsError as error:
            raise NotFoundError(f"{error} Find them again: {command}.") from None
        if found.digest not in {file.sha256 for file in info.certificate().files.values()}:
            raise NotFoundError(
                f"the directions of {info.name} are of digest {found.digest[:16]}…, not of {info.digest[:16]}…. "
                f"Find them again: {command}."
            )
        return found
