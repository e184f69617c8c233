"""What a Triton model's configuration says of each version, so that a client needs nothing but Triton.

    parameters { key: "ganvas.version.3" value { string_value: "{\\"digest\\":\\"d1d1…\\", …}" } }

Triton and its backends pass over these parameters; `ModelConfig` hands them on. All versions of a model share one
configuration, so it has one for each.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ganvas_core import noise
from ganvas_core.certificate import Certificate, Truncation
from ganvas_core.names import FP32_FILE, Role
from ganvas_core.prior import Mixture
from ganvas_core.typed_json import TypedJsonError, read_typed

__all__ = ["KEY_PREFIX", "Description", "DescriptionError", "described_versions", "descriptions"]

KEY_PREFIX = "ganvas."
"""Of every parameter of ours that is for clients."""

_VERSION_PREFIX = KEY_PREFIX + "version."

FORMAT = 1


class DescriptionError(Exception):
    """A parameter that this release cannot read."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """One version of a model, as the parameter of one of its Triton models has it."""

    format: int = FORMAT
    digest: str
    """SHA-256 of the sampler's ONNX file, in the configuration of every role."""
    precision: Literal["fp32", "fp16"]
    family: str
    roles: tuple[Role, ...]
    image: tuple[int, ...]
    """Height, width, channels."""
    latent_shape: tuple[int, ...]
    labels: tuple[str, ...]
    """Empty: unconditional."""
    noise: str
    truncation: Truncation
    truncation_max: float
    prior: Mixture | None = None
    """Of decode alone: a walk needs it, and it may be large. None: noise is the latent."""

    @classmethod
    def of(cls, sampler: Certificate, role: Role, file_name: str) -> Description:
        """What the configuration of a role says.

        Args:
            sampler: the certificate of NAME.
            file_name: of the ONNX files that the configuration serves.
        """
        file = sampler.files[file_name]
        return cls(
            digest=file.sha256,
            precision=file.precision,
            family=sampler.family,
            roles=sampler.roles,
            image=(sampler.height, sampler.width, sampler.channels),
            latent_shape=sampler.latent_shape,
            labels=sampler.labels,
            noise=sampler.noise,
            truncation=sampler.truncation,
            truncation_max=sampler.truncation_max,
            prior=sampler.prior if role == "decode" else None,
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> Description:
        """Parse strictly.

        Args:
            where: what the text is called in an error.
        Raises:
            DescriptionError: it is none that this release reads, or of another noise.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DescriptionError(f"{where} is not JSON: {error}.") from None
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise DescriptionError(
                f"{where} has format {data.get('format')!r:.20}; this release reads {FORMAT}. Upgrade ganvas-client."
            )
        try:
            read = read_typed(cls, data, where)
        except TypedJsonError as error:
            raise DescriptionError(str(error)) from None
        if read.noise != noise.ALGORITHM or len(read.image) != 3:
            raise DescriptionError(f"{where} has noise {read.noise!r:.80} and image {list(read.image)!s:.80}.")
        return read

    def to_json(self) -> str:
        """One line; what is None is left out."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return json.dumps(fields, separators=(",", ":"))


def descriptions(samplers: Mapping[int, Certificate], role: Role, file_name: str) -> dict[str, str]:
    """The parameters of a configuration: key to value.

    Args:
        samplers: the certificate of NAME, by version. One without the file cannot be served by this configuration.
        file_name: that the configuration serves; empty: Triton's default.
    """
    file_name = file_name or FP32_FILE
    return {
        f"{_VERSION_PREFIX}{version}": Description.of(sampler, role, file_name).to_json()
        for version, sampler in sorted(samplers.items())
        if file_name in sampler.files
    }


def described_versions(parameters: Mapping[str, str]) -> dict[str, str]:
    """Version to the text of its description, of a configuration's parameters."""
    return {
        key.removeprefix(_VERSION_PREFIX): text for key, text in parameters.items() if key.startswith(_VERSION_PREFIX)
    }
