"""Client of the Ganvas sampling service: a seed in, a picture out.

with Sampler("127.0.0.1:50051") as sampler:
    pictures = sampler.sample("digits-gan", range(64), truncation=0.7)
    pictures.array      # uint8 [64, 32, 32, 1]
"""

from ganvas_client.certificate import Certificate, CertificateError
from ganvas_client.errors import (
    CallCancelledError,
    DeadlineExceededError,
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
from ganvas_client.results import Format, Limits, ModelInfo, Picture, PictureInfo, Pictures, Posterior, Timing
from ganvas_client.sampler import DEFAULT_ADDRESS, AsyncSampler, Sampler

__all__ = [
    "DEFAULT_ADDRESS",
    "AsyncSampler",
    "CallCancelledError",
    "Certificate",
    "CertificateError",
    "DeadlineExceededError",
    "Format",
    "GanvasError",
    "InternalError",
    "InvalidArgumentError",
    "Limits",
    "ModelInfo",
    "NotFoundError",
    "Picture",
    "PictureInfo",
    "Pictures",
    "Posterior",
    "ResourceExhaustedError",
    "Sampler",
    "Timing",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "latents",
]
