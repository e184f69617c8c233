"""Latents: of seeds, of uploaded images, and what the model makes of them."""

from __future__ import annotations

import asyncio
import base64
import math

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clients.studio import addresses
from clients.studio.addresses import LatentImage, Reference
from clients.studio.endpoints.requests import FRESH, KEPT_NOWHERE, begin, json_body, read_body, split, unless_gone
from clients.studio.endpoints.shared import Shared
from clients.studio.uploads import MAX_UPLOAD_BYTES, fitted
from ganvas_client import InvalidArgumentError, ModelInfo, NotFoundError
from ganvas_core.formats import FileFormat
from ganvas_core.provenance import encode_image

__all__ = ["MAX_DECODE", "Latents", "latent_rows", "row_labels"]

MAX_DECODE = 256
MAX_LATENT_SEEDS = 1024


@checked_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class DecodeBody:
    """POST decode: the images of latents."""

    latents: list[list[float]] = Field(min_length=1, max_length=MAX_DECODE)
    labels: list[int] | None = None
    format: FileFormat = "png"


class Latents:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def latents(self, request: Request) -> Response:
        """What decode makes the images of some seeds of, bit for bit: with a label, or each with its own."""
        query = begin(request)
        stem, suffix = split(request.path_params["file"])
        if suffix != "json":
            raise NotFoundError(f"latents end in .json; got {suffix!r:.60}.")
        seeds = addresses.parse_seed_list(stem, most=MAX_LATENT_SEEDS)
        label, truncation = query.text("label"), query.truncation()
        query.end()
        info = await self._shared.catalog.model(addresses.parse_reference(request.path_params["reference"]))
        certificate = info.certificate()
        if certificate.truncation == "network" and truncation != 1:
            raise InvalidArgumentError(
                f"truncation must be 1 for latents of {info.name}, whose network truncates by itself; got {truncation}."
            )
        index = addresses.parse_label(label, info)
        labels = None if index is None else [index] * len(seeds)
        rows = await asyncio.to_thread(certificate.latents, seeds, float(truncation), labels)
        return JSONResponse(
            {
                "model": info.name,
                "digest": info.digest,
                "latent_shape": info.latent_shape,
                "seeds": [str(seed) for seed in seeds],
                "truncation": float(truncation),
                "latents": [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows],
            },
            headers=FRESH,
        )

    async def decode(self, request: Request) -> Response:
        """The images of latents; as one image file where that is asked for."""
        info = await self._shared.info(request)
        body = await json_body(request, DecodeBody)
        rows, labels = latent_rows(body.latents, info), row_labels(body.labels, len(body.latents), info)
        reference = Reference(name=info.name, digest=info.digest)
        images = await unless_gone(
            request, self._shared.sampler.decode(info.name, rows, labels=labels, format=body.format, digest=info.digest)
        )
        accept = request.headers.get("accept", "")
        if len(rows) == 1 and accept.startswith("image/"):
            return Response(images.bytes[0], media_type=addresses.MEDIA_TYPES[body.format])
        made = [
            {
                "address": LatentImage(
                    reference=reference,
                    latent=row.astype("<f4").tobytes(),
                    label=image.label,
                    format=body.format,
                ).address,
                "label": image.label,
                "data": base64.b64encode(image.bytes).decode(),
            }
            for row, image in zip(rows, images, strict=True)
        ]
        info_fields = {"model": info.name, "version": images.info.version, "digest": images.info.digest}
        return JSONResponse({**info_fields, "format": body.format, "images": made}, headers=KEPT_NOWHERE)

    async def encode(self, request: Request) -> Response:
        """The posterior of an uploaded image file, which is fitted to the model; nothing is kept of it."""
        info = await self._shared.info(request)
        data = await read_body(request, MAX_UPLOAD_BYTES)
        if not info.can_encode:
            raise InvalidArgumentError(
                f"model {info.name} has no encoder, so it takes no images; a VAE has one. Choose a model whose "
                "can_encode is true."
            )
        pixels = await self._shared.workers.run(lambda: fitted(data, info.height, info.width, info.channels))
        posterior = await unless_gone(request, self._shared.sampler.encode(info.name, pixels, digest=info.digest))
        still = await self._shared.workers.run(lambda: encode_image(pixels, "png", {}))
        return JSONResponse(
            {
                "model": info.name,
                "version": posterior.version,
                "digest": posterior.digest,
                "latent_shape": info.latent_shape,
                "mean": base64.b64encode(posterior.mean[0].astype("<f4").tobytes()).decode(),
                "logvar": base64.b64encode(posterior.logvar[0].astype("<f4").tobytes()).decode(),
                "fitted": base64.b64encode(still).decode(),
            },
            headers=KEPT_NOWHERE,
        )


def latent_rows(latents: list[list[float]], info: ModelInfo) -> NDArray[np.float32]:
    """[N, *latent_shape] float32.

    Raises:
        InvalidArgumentError: of another length, or not finite.
    """
    size = math.prod(info.latent_shape)
    for i, row in enumerate(latents):
        if len(row) != size:
            raise InvalidArgumentError(
                f"latents[{i}] must be {size} numbers, {list(info.latent_shape)} flattened; got {len(row)}."
            )
    with np.errstate(over="ignore"):
        array = np.array(latents, np.float32)
    if not np.isfinite(array).all():
        raise InvalidArgumentError("latents must be finite float32.")
    return array.reshape(-1, *info.latent_shape)


def row_labels(labels: list[int] | None, count: int, info: ModelInfo) -> list[int] | None:
    """One a latent, or none for an unconditional model.

    Raises:
        InvalidArgumentError: too few or too many, or the model has no such label.
    """
    if not info.labels and labels is None:
        return None
    if labels is None or len(labels) not in (1, count):
        raise InvalidArgumentError(
            f"labels must be 1 or {count}, one a latent, each within [0, {len(info.labels)}); got "
            f"{'none' if labels is None else len(labels)}."
        )
    for label in labels:
        if not 0 <= label < len(info.labels):
            raise InvalidArgumentError(f"label must be within [0, {len(info.labels)}); got {label}.")
    return labels * (count if len(labels) == 1 else 1)
