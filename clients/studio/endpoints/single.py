"""Single images, of a seed and of a latent."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from clients.studio import addresses
from clients.studio.addresses import LatentImage, SeedImage
from clients.studio.endpoints.requests import begin, redirect, split
from clients.studio.endpoints.shared import Shared

__all__ = ["SingleImages"]


class SingleImages:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def image(self, request: Request) -> Response:
        """The image of a seed: at a permanent address, or a redirect to it."""
        query = begin(request)
        reference = addresses.parse_reference(request.path_params["reference"])
        stem, suffix = split(request.path_params["file"])
        file_format = addresses.file_format(suffix, request.headers.get("accept"))
        seed = addresses.parse_seed(stem)
        label, truncation = query.text("label"), query.truncation()
        query.end()
        pinned, index = reference, None
        if reference.digest is None or label is not None:
            info = await self._shared.catalog.model(reference)
            pinned, index = reference.pinned(info), addresses.parse_label(label, info)
        wanted = SeedImage(reference=pinned, seed=seed, truncation=truncation, label=index, format=file_format)
        if reference.digest is None or "/pictures/" in request.url.path:
            return redirect(wanted.address, vary=not suffix)
        return await self._one(request, wanted, vary=not suffix)

    async def latent_image(self, request: Request) -> Response:
        """The image of a latent, which stands in its address."""
        query = begin(request)
        reference = addresses.parse_reference(request.path_params["reference"])
        stem, suffix = split(request.path_params["file"])
        file_format = addresses.file_format(suffix, request.headers.get("accept"))
        label = query.text("label")
        query.end()
        info = await self._shared.catalog.model(reference)
        wanted = LatentImage(
            reference=reference.pinned(info),
            latent=addresses.parse_latent(stem, info),
            label=addresses.parse_label(label, info),
            format=file_format,
        )
        if reference.digest is None:
            return redirect(wanted.address, vary=not suffix)
        return await self._one(request, wanted, info.latent_shape, vary=not suffix)

    async def _one(
        self, request: Request, wanted: SeedImage | LatentImage, latent_shape: tuple[int, ...] = (), *, vary: bool
    ) -> Response:
        async def make() -> bytes:
            return await self._shared.imager.image(wanted, latent_shape)

        return await self._shared.file(request, wanted.address, wanted.format, make, vary=vary)
