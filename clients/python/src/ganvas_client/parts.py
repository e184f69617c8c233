"""A decode or encode of more than the service takes in one request: several requests, and one result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ganvas.v1 import sampler_pb2
from ganvas_client.calls import UnaryCall
from ganvas_client.direct import KnownModel, checked
from ganvas_client.results import Image, Images, Posterior, Timing
from ganvas_core.requests.plans import slices

__all__ = ["joined", "split"]


def split(call: UnaryCall[Any], model: KnownModel, done: list[Any]) -> Iterator[UnaryCall[Any]]:
    """The calls that make up one.

    Args:
        done: their results so far. The version and digest of the first are asked of the others.
    Raises:
        InvalidArgumentError: a field is wrong, in the service's words.
    """
    whole = call.request
    for start, stop in slices(checked(call, model).count, model.info.limits.max_count):
        pin = done[0].info if done and isinstance(done[0], Images) else done[0] if done else whole
        part = type(whole)(model=whole.model, version=pin.version, digest=pin.digest, format=whole.format)
        if isinstance(part, sampler_pb2.DecodeRequest):
            size = math.prod(model.latent_shape)
            part.shape.extend((stop - start, *model.latent_shape))
            part.latents.extend(whole.latents[start * size : stop * size])
            part.labels.extend(whole.labels[start:stop] if len(whole.labels) > 1 else whole.labels)
        else:
            part.images.extend(whole.images[start:stop])
            part.shape.extend((stop - start, *whole.shape[1:]) if whole.shape else ())
        yield dataclasses.replace(call, request=part, named_labels=())


def joined(results: list[Any], timing: Timing) -> Any:
    """One result of those of all parts."""
    first = results[0]
    if isinstance(first, Posterior):
        mean, logvar = (np.concatenate([getattr(part, name) for part in results]) for name in ("mean", "logvar"))
        return dataclasses.replace(first, mean=mean, logvar=logvar, timing=timing)
    images: list[Image] = []
    for part in results:
        images += [dataclasses.replace(image, index=len(images) + image.index) for image in part]
    return Images(info=first.info, timing=timing, images=tuple(images))
