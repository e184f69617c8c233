"""Client of the Ganvas sampling service: a seed in, an image out.

with Sampler("127.0.0.1:50051") as sampler:
    images = sampler.sample("digits-gan", range(64), truncation=0.7)
    images.array      # uint8 [64, 32, 32, 1]
"""

from ganvas_client.async_sampler import AsyncSampler
from ganvas_client.errors import (
    CallCancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    GanvasError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from ganvas_client.noise import latents
from ganvas_client.results import Format, Image, ImageInfo, Images, Limits, ModelInfo, Posterior, Timing
from ganvas_client.sampler import Sampler
from ganvas_core.certificate import Certificate, CertificateError
from ganvas_core.names import DEFAULT_ADDRESS

__all__ = [
    "DEFAULT_ADDRESS",
    "AsyncSampler",
    "CallCancelledError",
    "Certificate",
    "CertificateError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "Format",
    "GanvasError",
    "Image",
    "ImageInfo",
    "Images",
    "InternalError",
    "InvalidArgumentError",
    "Limits",
    "ModelInfo",
    "NotFoundError",
    "Posterior",
    "ResourceExhaustedError",
    "Sampler",
    "Timing",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "latents",
]
