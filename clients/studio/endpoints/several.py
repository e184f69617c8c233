"""Several images in one: sheets and walks."""

from __future__ import annotations

from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass
from starlette.requests import Request
from starlette.responses import Response

from clients.studio import addresses
from clients.studio.addresses import Animation, Sheet, Walk
from clients.studio.endpoints.latents import MAX_DECODE, latent_rows, row_labels
from clients.studio.endpoints.requests import KEPT_NOWHERE, begin, json_body, redirect, split, unless_gone
from clients.studio.endpoints.shared import Shared
from clients.studio.sheets import animation_file, check_pixels, sheet_file
from ganvas_client import InvalidArgumentError, ModelInfo, NotFoundError
from ganvas_core.formats import FileFormat
from ganvas_core.provenance import image_text
from ganvas_core.requests.walk import slerp

__all__ = ["SeveralImages"]

LONG_CALL_S = 120.0


@checked_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class WalkBody:
    """POST walks: a walk from latent to latent."""

    latents: list[list[float]] = Field(min_length=2, max_length=64)
    labels: list[int] | None = None
    steps: int = Field(default=16, ge=1, le=addresses.MAX_WALK_FRAMES)
    loop: bool = False
    ms: int = Field(default=60, ge=10, le=10_000)
    scale: int = Field(default=1, ge=1, le=addresses.MAX_SCALE)
    format: FileFormat | Animation = "webp"


class SeveralImages:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def sheet(self, request: Request) -> Response:
        query = begin(request)
        reference = addresses.parse_reference(request.path_params["reference"])
        stem, suffix = split(request.path_params["file"])
        seeds = addresses.parse_seed_list(stem, most=addresses.MAX_SHEET_IMAGES)
        label, truncation = query.text("label"), query.truncation()
        columns = query.whole("columns", 0, least=1, most=addresses.MAX_SHEET_IMAGES)
        scale = query.whole("scale", 1, least=1, most=addresses.MAX_SCALE)
        query.end()
        info = await self._shared.catalog.model(reference)
        wanted = Sheet(
            reference=reference.pinned(info),
            seeds=stem.replace(" ", ""),
            truncation=truncation,
            label=addresses.parse_label(label, info),
            columns=columns or None,
            scale=scale,
            format=addresses.file_format(suffix, request.headers.get("accept")),
        )
        check_pixels(len(seeds), info.height, info.width, scale)
        if reference.digest is None:
            return redirect(wanted.address, vary=not suffix)

        async def make() -> bytes:
            images = await self._pixels(
                len(seeds),
                info,
                self._shared.sampler.sample_stream(
                    info.name,
                    seeds,
                    labels=wanted.label,
                    truncation=float(truncation),
                    digest=info.digest,
                    timeout_s=LONG_CALL_S,
                ),
            )
            text = _text("A sheet of machine-made images.", info, seeds=stem, truncation=truncation, label=wanted.label)
            return await self._shared.workers.run(
                lambda: sheet_file(images, wanted.format, text, columns=wanted.columns, scale=scale)
            )

        return await self._shared.file(request, wanted.address, wanted.format, make, vary=not suffix)

    async def walk(self, request: Request) -> Response:
        """A walk from seed to seed."""
        query = begin(request)
        reference = addresses.parse_reference(request.path_params["reference"])
        stem, suffix = split(request.path_params["file"])
        seeds = addresses.parse_seed_list(stem, most=addresses.MAX_WALK_FRAMES)
        label, truncation, loop = query.text("label"), query.truncation(), query.flag("loop")
        steps = query.whole("steps", 16, least=1, most=addresses.MAX_WALK_FRAMES)
        frame_ms = query.whole("ms", 60, least=10, most=10_000)
        scale = query.whole("scale", 1, least=1, most=addresses.MAX_SCALE)
        query.end()
        info = await self._shared.catalog.model(reference)
        wanted = Walk(
            reference=reference.pinned(info),
            seeds=stem.replace(" ", ""),
            steps=steps,
            loop=loop,
            frame_ms=frame_ms,
            truncation=truncation,
            label=addresses.parse_label(label, info),
            scale=scale,
            format=_walk_format(suffix),
        )
        num_frames = _num_frames(len(seeds), steps, loop)
        check_pixels(num_frames, info.height, info.width, scale)
        if reference.digest is None:
            return redirect(wanted.address, vary=False)

        async def make() -> bytes:
            frames = await self._pixels(
                num_frames,
                info,
                self._shared.sampler.walk(
                    info.name,
                    seeds,
                    steps=steps,
                    loop=loop,
                    label=wanted.label,
                    truncation=float(truncation),
                    digest=info.digest,
                    timeout_s=LONG_CALL_S,
                ),
            )
            text = _text("A walk of machine-made images.", info, seeds=stem, steps=steps, truncation=truncation)
            return await self._walk_file(frames, wanted.format, text, steps, scale, frame_ms, loop)

        return await self._shared.file(request, wanted.address, wanted.format, make)

    async def walk_of_latents(self, request: Request) -> Response:
        info = await self._shared.info(request)
        body = await json_body(request, WalkBody)
        points, labels = latent_rows(body.latents, info), row_labels(body.labels, len(body.latents), info)
        num_frames = _num_frames(len(points), body.steps, body.loop)
        check_pixels(num_frames, info.height, info.width, body.scale)
        leg, step = np.divmod(np.arange(num_frames), body.steps)
        here, there = leg % len(points), (leg + 1) % len(points)
        frames = slerp(points[here], points[there], step / body.steps)
        nearest = np.where(2 * step < body.steps, here, there)

        async def make() -> bytes:
            parts = []
            for start in range(0, num_frames, MAX_DECODE):
                part = slice(start, start + MAX_DECODE)
                chosen = None if labels is None else [labels[i] for i in nearest[part]]
                images = await self._shared.sampler.decode(info.name, frames[part], labels=chosen, digest=info.digest)
                parts.append(images.array)
            text = _text("A walk of machine-made images.", info, steps=body.steps)
            return await self._walk_file(
                np.concatenate(parts), body.format, text, body.steps, body.scale, body.ms, body.loop
            )

        data = await unless_gone(request, make())
        return Response(data, media_type=addresses.MEDIA_TYPES[body.format], headers=KEPT_NOWHERE)

    async def _walk_file(
        self,
        frames: NDArray[np.uint8],
        file_format: FileFormat | Animation,
        text: dict[str, str],
        steps: int,
        scale: int,
        frame_ms: int,
        loop: bool,
    ) -> bytes:
        """An animation; as PNG or JPEG its frames on a sheet, a row from each stop to the next."""
        if file_format in ("png", "jpeg"):
            still: Any = file_format
            return await self._shared.workers.run(lambda: sheet_file(frames, still, text, columns=steps, scale=scale))
        moving: Any = file_format
        return await self._shared.workers.run(
            lambda: animation_file(frames, moving, text, scale=scale, frame_ms=frame_ms, loop=loop)
        )

    async def _pixels(self, count: int, info: ModelInfo, stream: Any) -> NDArray[np.uint8]:
        """[N,H,W,C] uint8 of a stream of raw images. If this is cancelled, so is the call."""
        pixels = np.empty((count, info.height, info.width, info.channels), np.uint8)
        async for image in stream:
            pixels[image.index] = image.array
        return pixels


def _walk_format(suffix: str) -> FileFormat | Animation:
    if suffix in get_args(Animation):
        return cast("Animation", suffix)
    if suffix in ("png", "jpg", "jpeg"):
        return addresses.file_format(suffix, None)
    raise NotFoundError(
        f"walks end in {', '.join('.' + name for name in get_args(Animation))}, or in .png or .jpg for their frames on "
        f"a sheet; got {suffix!r:.60}."
    )


def _num_frames(stops: int, steps: int, loop: bool) -> int:
    if stops < 2:
        raise InvalidArgumentError(f"a walk passes through 2 seeds or more; got {stops}.")
    count = stops * steps if loop else (stops - 1) * steps + 1
    if count > addresses.MAX_WALK_FRAMES:
        raise InvalidArgumentError(
            f"a walk has at most {addresses.MAX_WALK_FRAMES} frames here; got {count}. Take fewer steps."
        )
    return count


def _text(description: str, info: ModelInfo, **fields: object) -> dict[str, str]:
    return image_text(description, {"model": info.name, "version": info.version, "digest": info.digest, **fields})
