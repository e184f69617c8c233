"""Requests checked field by field and turned into plans: what to compute.

Every check is O(1) before anything of the request's size is touched, so a huge request is rejected
as cheaply as a small one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.requests.errors import InvalidFieldError
from ganvas_core.requests.model import RequestedModel
from ganvas_core.requests.plans import DecodePlan, EncodePlan, M, SamplePlan, SeedSpan, WalkPlan

__all__ = ["parse_decode", "parse_encode", "parse_sample", "parse_walk"]

Int64s = NDArray[np.int64]

CHUNK = 8192

_FORMATS = frozenset(pb.Format.values())

MAX_DIMENSIONS = 32
"""NumPy 1 has no more."""

MAX_LISTED = 20
"""Labels that an error message lists."""


def parse_sample(request: pb.SampleRequest, model: M, *, stream: bool) -> SamplePlan[M]:
    """Check a SampleRequest.

    Args:
        stream: the limit of SampleStream holds, not Sample's.
    Raises:
        InvalidFieldError: names the field, the value and the limit.
    """
    # Which seeds, listed or as a range.
    seeds: NDArray[np.uint64] | SeedSpan
    given, ranged = len(request.seeds), request.HasField("range")
    if given and ranged:
        raise InvalidFieldError("seeds", f"({given} of them) and range are both set; give one of the two.")
    if not given and not ranged:
        raise InvalidFieldError("seeds", "and range are both absent; give one of the two.")
    if given:
        _check_count("seeds", given, model, "seeds", stream=stream)
        seeds = _array(request.seeds, np.uint64)
    else:
        first, count = request.range.first, request.range.count
        _check_count("range.count", count, model, "seeds", stream=stream)
        if first + count > 2**64:
            raise InvalidFieldError("range", f"must end by seed 2^64 - 1; got {count} seeds from {first}.")
        seeds = SeedSpan(first, count)
    return SamplePlan(
        model=model,
        format=_format(request.format),
        count=len(seeds),
        truncation=_truncation(request, model),
        seeds=seeds,
        labels=_labels(request.labels, model, len(seeds)),
    )


def parse_decode(request: pb.DecodeRequest, model: M) -> DecodePlan[M]:
    """Check a DecodeRequest. Raises as `parse_sample`."""
    latent_shape, num_floats = model.latent_shape, len(request.latents)
    latent_size = math.prod(latent_shape)
    if num_floats % latent_size:
        raise InvalidFieldError(
            "latents",
            f"must hold a multiple of {latent_size} floats, the latent_shape of {model.name} being "
            f"{list(latent_shape)}; got {num_floats}.",
        )
    count = num_floats // latent_size
    _check_count("latents", count, model, "latents", stream=False)
    shape = _shape(request.shape)
    if shape not in ((), (count, *latent_shape)) and (count, shape) != (1, latent_shape):
        num_latents = shape[0] if len(shape) == 1 + len(latent_shape) else "N"
        expected = ", ".join(map(str, (num_latents, *latent_shape)))
        raise InvalidFieldError("shape", f"of latents must be [{expected}]; got {_listed_shape(shape)}.")
    labels = _labels(request.labels, model, count)
    if labels is None and model.labels:
        raise InvalidFieldError("labels", f"must hold one label, or one a latent; got none. {_listed(model)}")
    latents = _array(request.latents, np.float32).reshape(count, latent_size)
    if not np.isfinite(latents).all():
        row, column = np.argwhere(~np.isfinite(latents))[0].tolist()
        raise InvalidFieldError(
            f"latents[{row * latent_size + column}]",
            f"must be finite; got {latents[row, column]} (latent {row}, number {column} of it).",
        )
    latents = latents.reshape(count, *latent_shape)
    return DecodePlan(model=model, format=_format(request.format), count=count, latents=latents, labels=labels)


def parse_walk(request: pb.WalkRequest, model: M) -> WalkPlan[M]:
    """Check a WalkRequest. Raises as `parse_sample`."""
    limit = model.max_stream_count
    num_seeds = len(request.seeds)
    if num_seeds < 2:
        raise InvalidFieldError("seeds", f"must hold 2 seeds or more to walk between; got {num_seeds}.")
    if request.steps < 1:
        raise InvalidFieldError("steps", f"must be 1 or more frames from seed to seed; got {request.steps}.")
    num_frames = num_seeds * request.steps if request.loop else (num_seeds - 1) * request.steps + 1
    if num_frames > limit:
        raise InvalidFieldError(
            "steps", f"{request.steps} over {num_seeds} seeds makes {num_frames} frames; the limit is {limit}."
        )
    if not 0 <= request.first_frame < num_frames:
        raise InvalidFieldError(
            "first_frame", f"must be within [0, {num_frames - 1}], frames of this walk; got {request.first_frame}."
        )
    truncation = _truncation(request, model)
    if model.network_truncates and truncation != 1.0:
        raise InvalidFieldError(
            "truncation",
            f"must be 1 in a walk through {model.name}, whose network truncates by itself; got {truncation:g}.",
        )
    labels = _labels(request.labels, model, 1)
    if labels is None and model.labels:
        labels = np.zeros(1, np.int64)
    return WalkPlan(
        model=model,
        format=_format(request.format),
        first=request.first_frame,
        count=num_frames - request.first_frame,
        truncation=truncation,
        seeds=_array(request.seeds, np.uint64),
        steps=request.steps,
        labels=None if labels is None else np.broadcast_to(labels, num_frames),
    )


def parse_encode(request: pb.EncodeRequest, model: M) -> EncodePlan[M]:
    """Check an EncodeRequest, but for the contents of image files, which take a while. Raises as `parse_sample`."""
    if "encode" not in model.roles:
        raise InvalidFieldError(
            "model",
            f"{model.name} cannot encode: it has no encoder (roles: {', '.join(model.roles)}).",
        )
    _check_count("images", len(request.images), model, "images", stream=False)
    plan = EncodePlan(model=model, format=_format(request.format), images=request.images)
    if plan.format == pb.FORMAT_RAW:
        height, width, channels = model.shape
        shape, expected = _shape(request.shape), (len(request.images), *model.shape)
        if shape not in ((), expected):
            raise InvalidFieldError("shape", f"of images must be {list(expected)}; got {_listed_shape(shape)}.")
        for index, image in enumerate(request.images):
            if len(image) != model.image_bytes:
                raise InvalidFieldError(
                    f"images[{index}]",
                    f"must have {model.image_bytes} bytes of uint8, {height} x {width} x {channels}; "
                    f"got {len(image)}. For a PNG, JPEG or WebP file set format.",
                )
    return plan


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Of a request: at most as many dimensions as tell that it is wrong."""
    return tuple(shape[: MAX_DIMENSIONS + 1])


def _listed_shape(shape: tuple[int, ...]) -> str:
    more = ", …" if len(shape) > MAX_DIMENSIONS else ""
    return f"[{', '.join(map(str, shape[:MAX_DIMENSIONS]))}{more}]"


def _check_count(field: str, count: int, model: RequestedModel, what: str, *, stream: bool) -> None:
    limit = model.max_stream_count if stream else model.max_count
    if 1 <= count <= limit:
        return
    step = "."
    if count > limit:
        step = ". Use SampleStream, or split the request."
        if stream or what != "seeds" or count > model.max_stream_count:
            step = ". Split the request."
    raise InvalidFieldError(field, f"must be within [1, {limit}] {what}; got {count}{step}")


def _truncation(request: Any, model: RequestedModel) -> float:
    """The request's, or 1."""
    if not request.HasField("truncation"):
        return 1.0
    truncation: float = request.truncation
    limit = float(np.float32(model.truncation_max))
    if math.isnan(truncation) or not 0 <= truncation <= limit:
        raise InvalidFieldError("truncation", f"must be within [0, {model.truncation_max:g}]; got {truncation:g}.")
    return truncation


def _labels(labels: Sequence[int], model: RequestedModel, count: int) -> Int64s | None:
    """[count] int64, or None when no label is given."""
    given, num_labels = len(labels), len(model.labels)
    if not given:
        return None
    if not num_labels:
        raise InvalidFieldError("labels", f"must be empty: model {model.name} is unconditional; got {given}.")
    if given not in (1, count):
        expected = "one" if count == 1 else f"none, one, or one each for {count} images"
        raise InvalidFieldError("labels", f"must hold {expected}; got {given}.")
    values = _array(labels, np.int64)
    unknown = values.view(np.uint64) >= num_labels  # as unsigned, what is negative is large
    if unknown.any():
        index = int(unknown.argmax())
        raise InvalidFieldError(
            f"labels[{index}]", f"must be within [0, {num_labels - 1}]; got {values[index]}. {_listed(model)}"
        )
    return values if given == count else np.broadcast_to(values, count)


def _array(values: Sequence[Any], dtype: Any) -> NDArray[Any]:
    """A repeated field as an array. In pieces: in a thread, Python's lock is free between them."""
    if len(values) <= CHUNK:
        return np.array(values[:], dtype)
    pieces = [np.array(values[start : start + CHUNK], dtype) for start in range(0, len(values), CHUNK)]
    return np.concatenate(pieces)


def _format(value: pb.Format) -> pb.Format:
    """The format, with raw for unspecified."""
    if value not in _FORMATS:
        names = ", ".join(name for name, number in pb.Format.items() if number)
        raise InvalidFieldError("format", f"must be one of {names}; got {value}.")
    return value or pb.FORMAT_RAW


def _listed(model: RequestedModel) -> str:
    names = [f"{index} ({name})" if name != str(index) else name for index, name in enumerate(model.labels)]
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"Labels of {model.name}: {', '.join(names[:MAX_LISTED])}{more}."
