"""The certificate of an exported model: what it is, the hash of every file, and the proof that it is right.

Export writes it, serving rejects what does not match it, and a client reads it from GetModel to check an image
by itself. docs/certificate.md lists the fields.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ganvas_core import noise
from ganvas_core.interface import Interface, interface
from ganvas_core.names import CERTIFICATE_FILE, Role
from ganvas_core.prior import Mixture
from ganvas_core.typed_json import TypedJsonError, read_typed

__all__ = [
    "FORMAT",
    "Activations",
    "Arithmetic",
    "Certificate",
    "CertificateError",
    "FloatParity",
    "Golden",
    "ModelFile",
    "PixelParity",
    "Truncation",
    "file_sha256",
    "read_samplers",
]

Truncation = Literal["latent", "network"]

Arithmetic = Literal["float32", "half"]
"""What a figure was obtained in. "float32": ONNX Runtime's CPU provider, which computes an fp16 file in float32 too.
"half": every node of the file rounds what it makes to half, as on a GPU."""

FORMAT = 5
"""The certificate format that this release writes. It reads formats 1 to 4 too."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class CertificateError(Exception):
    """A certificate that cannot be read, or a file that does not match it."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One golden image, and the SHA-256 of what a role must make of it again.

    Of sample and decode that is the image itself, raw uint8 HWC. Of encode it is the image's posterior: mean, then
    logvar, float32, little endian.
    """

    seed: int
    truncation: float
    label: int | None
    sha256: str

    def __post_init__(self) -> None:
        _require("golden seed", 0 <= self.seed < 2**64, "within [0, 2^64)", self.seed)
        _require("golden truncation", math.isfinite(self.truncation), "finite", self.truncation)


@dataclass(frozen=True, kw_only=True)
class FloatParity:
    """A graph against PyTorch in float, before rounding to uint8 (encode: mean and logvar)."""

    atol: float
    """The bound: of an fp32 graph, 4 times PyTorch's own error in float32, and at least 1e-6 of the image range."""
    max_abs: float
    """The largest difference found."""
    reference: Literal["float32", "float64"] = "float32"
    """PyTorch's precision."""
    arithmetic: Arithmetic = "float32"
    """The graph's."""


@dataclass(frozen=True, kw_only=True)
class PixelParity:
    """A file's images against PyTorch's, in uint8 levels."""

    max_levels: int
    mean_levels: float
    worst_psnr_db: float | None
    """None: every image identical."""
    arithmetic: Arithmetic = "float32"
    """The file's; PyTorch's is float32."""
    num_images: int | None = None
    """How many were compared, of every batch size. None: the certificate's parity seeds."""
    worst: str | None = None
    """Seed, truncation, label, and in half arithmetic the batch, of the image that differs most. None: every image
    identical, or an older certificate."""


@dataclass(frozen=True, kw_only=True)
class Activations:
    """The half values inside an fp16 file, over every image that it was proven with."""

    peak: float
    """The largest size."""
    limit: float
    """What it must not exceed: a quarter of the largest half number."""
    node: str
    """The node that makes the largest."""
    num_nonfinite: int
    """Infinite, or not a number."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One ONNX file of a version."""

    sha256: str
    num_bytes: int
    precision: Literal["fp32", "fp16"]
    fp32_nodes: dict[str, str] = field(default_factory=dict)
    """In an fp16 file: each node kept in fp32, and why."""
    rescaled: dict[str, int] = field(default_factory=dict)
    """In an fp16 file: each node whose weights are divided by 2 to this power, which the next layer undoes exactly."""
    clipped: dict[str, str] = field(default_factory=dict)
    """In an fp16 file: each weight beyond half's range that was clipped to it, as asked for, and how much of it."""
    activations: Activations | None = None
    """Of an fp16 file, in half arithmetic."""
    pixel_parity: PixelParity | None = None
    """None for encode, which makes no images."""
    float_parity: FloatParity | None = None
    """Of encode: this file's mean and logvar against PyTorch's. None for the roles that make images."""
    golden: tuple[Golden, ...] = ()
    """Made on the CPU provider at batch 1. Encode has none in certificates of formats 1 to 4."""
    golden_atol: float | None = None
    """Of encode: on another kind of processor, mean and logvar of the golden images may differ from golden.npy by this,
    relative where they are beyond 1 in size. None: there are no golden posteriors."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """certificate.json of one version of one Triton model."""

    format: int
    name: str
    """The Triton model: NAME, NAME-decode or NAME-encode."""
    version: int
    role: Role
    """What this Triton model does."""
    roles: tuple[Role, ...]
    """What the model NAME can do, this role included."""
    family: str
    """Of the network: for people to read. What a model can do, `roles` says."""
    height: int
    width: int
    channels: int
    noise: str
    """The algorithm that turns a seed into a latent: ganvas_core.noise.ALGORITHM."""
    latent_shape: tuple[int, ...]
    labels: tuple[str, ...]
    """Empty: unconditional."""
    truncation: Truncation
    """Who applies it. "latent": sample(seed, truncation) is decode(latent(seed) * truncation). "network": it does."""
    truncation_max: float
    max_batch_size: int
    opset: int
    files: dict[str, ModelFile]
    """File name in the version's folder to its description: model.onnx (fp32), and model.fp16.onnx if it passed."""
    attachments: dict[str, str]
    """Every other file but the certificate, with its SHA-256. Of sample and encode: golden.png, the fp32 golden images
    top to bottom. Of encode: golden.npy, their posteriors from the fp32 file, [G, 2, *latent_shape] float32."""
    golden_atol_levels: int
    """On another kind of processor, the golden images may differ from golden.png by this many levels."""
    float_parity: FloatParity
    num_parity_seeds: int
    parity_batches: tuple[int, ...]
    batch_invariant: bool
    """On the CPU provider, each image has the same bytes in every one of parity_batches, in every slot."""
    created: str
    tools: dict[str, str]
    """Name to version: python, torch, onnx, onnxruntime, numpy."""
    source: dict[str, Any]
    """Where the weights came from: checkpoint digest, preset, dataset, kimg, metrics, git revision."""
    num_half_seeds: int | None = None
    """Seeds that the fp16 file was proven for in half arithmetic, the corners of truncation and labels beside them."""
    no_fp16: str | None = None
    """Why there is no fp16 file. None where there is one, or none was asked for."""
    pinned_batch: int | None = None
    """The one batch size that this model is proven in: smaller batches are filled up with their last row. None: any."""
    prior: Mixture | None = None
    """What the sampler makes a latent of noise with: ganvas_core.noise.truncated_latents. None: noise is the latent."""

    def __post_init__(self) -> None:
        for field_name in ("version", "height", "width", "channels", "max_batch_size"):
            value = getattr(self, field_name)
            _require(field_name, value >= 1, "at least 1", value)
        _require("latent_shape", min(self.latent_shape, default=0) >= 1, "dimensions of at least 1", self.latent_shape)
        _require("roles", self.role in self.roles, f"a list with {self.role!r}, the certificate's role", self.roles)
        _require("truncation_max", 0 < self.truncation_max < math.inf, "positive", self.truncation_max)
        if self.prior is not None:
            _require("latent_shape", self.latent_shape == (self.prior.latent_dim,), "as prior", self.latent_shape)
            _require("truncation", self.truncation == "latent", "latent, of a model with a prior", self.truncation)
            num_labels = self.prior.num_labels
            _require("prior.label_thresholds", num_labels in (0, len(self.labels)), "a row for each label", num_labels)
        for file in self.files.values():
            atol = file.golden_atol
            if self.role == "encode" and file.golden:
                _require("golden_atol", atol is not None and 0 <= atol < math.inf, "a bound, of an encoder", atol)
        for file_name in (*self.files, *self.attachments):
            _require(
                "file name", _FILE_NAME.fullmatch(file_name) is not None, "a plain name without folders", file_name
            )

    @property
    def interface(self) -> Interface:
        """What this Triton model takes and gives."""
        return interface(
            self.role,
            image=(self.height, self.width, self.channels),
            latent_shape=self.latent_shape,
            num_labels=len(self.labels),
        )

    def latents(
        self,
        seeds: Sequence[int] | NDArray[np.uint64],
        truncation: float | NDArray[np.float32] = 1.0,
        labels: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """[N, *latent_shape] float32: what `decode` makes the images of these seeds of, bit for bit.

        A network with a truncation of its own does that at truncation 1 alone.

        Args:
            labels: [N], of a conditional model; a prior may depend on them. None: each seed modulo the number of
                labels, as in sample.
        """
        if labels is None and self.labels:
            labels = (np.array(seeds, np.uint64) % np.uint64(len(self.labels))).astype(np.int64)
        return noise.truncated_latents(seeds, truncation, self.latent_shape, self.prior, labels)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Parse strictly: unknown or missing keys and wrong types are errors.

        Raises:
            CertificateError: the text is not a certificate of a format this release reads.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CertificateError(f"certificate.json is not JSON: {error}.") from None
        if not isinstance(data, dict) or not isinstance(data.get("format"), int):
            raise CertificateError("certificate.json has no integer field 'format'.")
        if data["format"] > FORMAT:
            raise CertificateError(
                f"certificate.json has format {data['format']}; this release reads up to {FORMAT}. Upgrade Ganvas."
            )
        written_format = data["format"]
        if written_format == 1:
            data = _upgrade_format_1(data)
        if written_format < FORMAT:
            # What formats 3 to 5 add has defaults that say what was true of the earlier ones.
            data = data | {"format": FORMAT}
        try:
            parsed = read_typed(cls, data, CERTIFICATE_FILE)
        except TypedJsonError as error:
            raise CertificateError(str(error)) from None
        if parsed.noise != noise.ALGORITHM:
            raise CertificateError(
                f"{parsed.name} version {parsed.version} was exported with the noise {parsed.noise!r:.80} (certificate "
                f"format {written_format}); this release has {noise.ALGORITHM!r}, so its seeds would give other "
                "images. Export it again: ./ganvas export CHECKPOINT --name NAME."
            )
        return parsed

    @classmethod
    def read(cls, version_folder: Path) -> Certificate:
        """Read version_folder/certificate.json.

        Raises:
            CertificateError: missing, unreadable or malformed.
        """
        path = version_folder / CERTIFICATE_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CertificateError(f"cannot read {path}: {error}.") from None
        return cls.from_json(text)

    def check_files(self, version_folder: Path) -> None:
        """Compare the SHA-256 of every listed file.

        Raises:
            CertificateError: names the first file that is missing or differs.
        """
        expected = {name: entry.sha256 for name, entry in self.files.items()} | self.attachments
        for name, sha256 in expected.items():
            path = version_folder / name
            if not path.is_file():
                raise CertificateError(f"{path} is missing, but its certificate lists it. Export the model again.")
            if (actual := file_sha256(path)) != sha256:
                raise CertificateError(
                    f"{path} has SHA-256 {actual[:16]}…, but its certificate says {sha256[:16]}…: "
                    "the file was changed or damaged. Export the model again."
                )


def read_samplers(model_folder: Path) -> dict[int, Certificate]:
    """The certificate of every version of NAME, by version; those that cannot be read are left out.

    Args:
        model_folder: NAME in a model repository, there or not.
    """
    found = {}
    for path in model_folder.glob(f"[1-9]*/{CERTIFICATE_FILE}"):
        if path.parent.name.isdecimal():
            with contextlib.suppress(CertificateError):
                found[int(path.parent.name)] = Certificate.read(path.parent)
    return found


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _upgrade_format_1(data: dict[str, Any]) -> dict[str, Any]:
    """Format 1: flat latents scaled by truncation, one noise, a role called sampler, an encoder in every VAE alone."""
    data = dict(data)
    roles = ["sample", "decode", *(["encode"] if data.get("family") == "vae" else [])]
    role = data.get("role")
    return data | {
        "format": FORMAT,
        "role": "sample" if role == "sampler" else role,
        "roles": roles,
        "noise": "squares32-gaussian-table",
        "latent_shape": [data.pop("latent_dim", None)],
        "truncation": "latent",
    }


def _require(field_name: str, holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise CertificateError(f"{field_name} must be {rule}; got {value!r:.80}.")
