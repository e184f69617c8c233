"""The service's messages turned into results."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ganvas.v1 import sampler_pb2
from ganvas_client.errors import FailedPreconditionError
from ganvas_client.results import Format, Image, ImageInfo, Images, Limits, ModelInfo, Posterior, Timing

__all__ = ["check_digest", "images", "model", "models", "posterior"]

_FORMATS: dict[int, Format] = {sampler_pb2.Format.Value(f"FORMAT_{name.upper()}"): name for name in get_args(Format)}


def check_digest(wanted: str, served: str) -> None:
    """Compare the digest that the caller pins, if it pins one, with that of a reply.

    Raises:
        FailedPreconditionError: a service that does not know pins has answered from another file.
    """
    if wanted and wanted != served:
        raise FailedPreconditionError(f"digest {wanted[:16]}… was asked for, and {served[:16]}… answered.")


def images(
    reply: sampler_pb2.SampleResponse | sampler_pb2.DecodeResponse | sampler_pb2.WalkResponse,
    request_id: str,
    *,
    of_latents: bool = False,
) -> Images:
    info = ImageInfo(
        model=reply.info.model,
        version=reply.info.version,
        digest=reply.info.digest,
        format=_FORMATS.get(reply.info.format, "raw"),
        height=reply.info.height,
        width=reply.info.width,
        channels=reply.info.channels,
        truncation=reply.info.truncation,
        request_id=request_id,
    )
    made = (
        Image(
            index=image.index,
            seed=None if of_latents else image.seed,
            label=image.label if image.HasField("label") else None,
            bytes=image.data,
            info=info,
        )
        for image in reply.images
    )
    return Images(info=info, timing=_timing(reply.timing), images=tuple(made))


def posterior(reply: sampler_pb2.EncodeResponse, request_id: str) -> Posterior:
    return Posterior(
        model=reply.model,
        version=reply.version,
        digest=reply.digest,
        mean=_rows(reply.mean, reply.latent_shape),
        logvar=_rows(reply.logvar, reply.latent_shape),
        timing=_timing(reply.timing),
        request_id=request_id,
    )


def models(reply: sampler_pb2.ListModelsResponse, request_id: str) -> list[ModelInfo]:
    return [_model(entry, "", None) for entry in reply.models]


def model(reply: sampler_pb2.GetModelResponse, request_id: str) -> ModelInfo:
    recent = _timing(reply.recent) if reply.HasField("recent") else None
    return _model(reply.model, reply.certificate_json, recent)


def _model(entry: sampler_pb2.Model, certificate_json: str, recent: Timing | None) -> ModelInfo:
    limits = Limits(
        truncation_max=entry.limits.truncation_max,
        max_count=entry.limits.max_count,
        max_stream_count=entry.limits.max_stream_count,
        max_batch_size=entry.limits.max_batch_size,
    )
    return ModelInfo(
        name=entry.name,
        version=entry.version,
        versions=tuple(entry.versions),
        digest=entry.digest,
        family=entry.family,
        height=entry.height,
        width=entry.width,
        channels=entry.channels,
        latent_shape=tuple(entry.latent_shape),
        labels=tuple(entry.labels),
        can_encode=entry.can_encode,
        precision=entry.precision,
        limits=limits,
        golden=entry.golden,
        certificate_json=certificate_json,
        recent=recent,
        out=entry.out,
    )


def _timing(timing: sampler_pb2.Timing) -> Timing:
    return Timing(
        total_us=timing.total_us,
        queue_us=timing.queue_us,
        inference_us=timing.inference_us,
        encode_us=timing.encode_us,
    )


def _rows(values: Any, latent_shape: Any) -> NDArray[np.float32]:
    """[N, *latent_shape] float32 of one repeated field."""
    return np.array(values, np.float32).reshape(-1, *latent_shape)
