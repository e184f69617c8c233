"""Addresses: an image is a pure function of (digest, seed, truncation, label), so a path and query name it for ever.

    /v1/models/NAME@DIGEST/images/42.png?label=3&truncation=0.7      of a seed
    /v1/models/NAME@DIGEST/decode/BASE64URL.png?label=3              of a latent: little-endian float32
    /v1/models/NAME@DIGEST/sheets/0-63.png?columns=8                 of many seeds
    /v1/models/NAME@DIGEST/walks/1,2,3.webp?steps=16                 through latent space, from seed to seed

Without @DIGEST it is a short address, of whatever is served under that name now.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import quote, urlencode

import numpy as np
from numpy.typing import NDArray

from clients.cli.seeds import list_seeds, parse_seeds
from ganvas_client import InvalidArgumentError, ModelInfo, NotFoundError
from ganvas_core.formats import SUFFIXES, FileFormat
from ganvas_core.names import is_model_name

__all__ = [
    "MEDIA_TYPES",
    "Animation",
    "LatentImage",
    "Query",
    "Reference",
    "SeedImage",
    "Sheet",
    "Walk",
    "entity_tag",
    "file_format",
    "parse_label",
    "parse_latent",
    "parse_reference",
    "parse_seed",
]

Animation = Literal["webp", "gif", "mp4"]

MEDIA_TYPES: dict[str, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "mp4": "video/mp4",
}

MAX_SHEET_IMAGES = 1024
MAX_WALK_FRAMES = 960
MAX_SCALE = 16

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SEED = re.compile(r"[0-9]{1,20}")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A model as an address names it: NAME@DIGEST for ever, NAME for what is served now."""

    name: str
    digest: str | None

    @property
    def path(self) -> str:
        return f"/v1/models/{self.name}" + (f"@{self.digest}" if self.digest else "")

    def pinned(self, info: ModelInfo) -> Reference:
        return replace(self, digest=self.digest or info.digest)


@dataclass(frozen=True, kw_only=True)
class SeedImage:
    """One image of a seed."""

    reference: Reference
    seed: int
    truncation: np.float32
    label: int | None
    format: FileFormat

    @property
    def address(self) -> str:
        query = {"label": self.label, "truncation": _truncation(self.truncation)}
        return f"{self.reference.path}/images/{self.seed}.{self.format}{_query(query)}"


@dataclass(frozen=True, kw_only=True)
class LatentImage:
    """One image of a latent."""

    reference: Reference
    latent: bytes
    """Little-endian float32, the last dimension fastest."""
    label: int | None
    format: FileFormat

    @property
    def address(self) -> str:
        name = base64.urlsafe_b64encode(self.latent).decode().rstrip("=")
        return f"{self.reference.path}/decode/{name}.{self.format}{_query({'label': self.label})}"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Images of many seeds, side by side."""

    reference: Reference
    seeds: str
    truncation: np.float32
    label: int | None
    columns: int | None
    scale: int
    format: FileFormat

    @property
    def address(self) -> str:
        query = {
            "columns": self.columns,
            "label": self.label,
            "scale": None if self.scale == 1 else self.scale,
            "truncation": _truncation(self.truncation),
        }
        return f"{self.reference.path}/sheets/{self.seeds}.{self.format}{_query(query)}"


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A walk from seed to seed: an animation, or its frames on a sheet."""

    reference: Reference
    seeds: str
    steps: int
    loop: bool
    frame_ms: int
    truncation: np.float32
    label: int | None
    scale: int
    format: FileFormat | Animation

    @property
    def address(self) -> str:
        query = {
            "label": self.label,
            "loop": "true" if self.loop else None,
            "ms": self.frame_ms,
            "scale": None if self.scale == 1 else self.scale,
            "steps": self.steps,
            "truncation": _truncation(self.truncation),
        }
        return f"{self.reference.path}/walks/{self.seeds}.{self.format}{_query(query)}"


class Query:
    """The fields of a query: each is taken once, and none may be left over.

    Raises:
        InvalidArgumentError: a field is given twice.
    """

    def __init__(self, items: list[tuple[str, str]]) -> None:
        self._left: dict[str, str] = {}
        self._known: list[str] = []
        for name, value in items:
            if name in self._left:
                raise InvalidArgumentError(f"{name!r:.{_SHOWN}} must be given once; got it twice.")
            self._left[name] = value

    def text(self, name: str) -> str | None:
        self._known.append(name)
        return self._left.pop(name, None)

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self.text(name)
        if value is None:
            return default
        if not _WHOLE.fullmatch(value) or not least <= int(value) <= most:
            raise InvalidArgumentError(
                f"{name} must be a whole number within [{least}, {most}]; got {value!r:.{_SHOWN}}."
            )
        return int(value)

    def flag(self, name: str) -> bool:
        value = self.text(name)
        if value not in (None, "true", "false"):
            raise InvalidArgumentError(f"{name} must be true or false; got {value!r:.{_SHOWN}}.")
        return value == "true"

    def truncation(self) -> np.float32:
        """The service compares it with the model's limit."""
        value = self.text("truncation")
        try:
            number = float("1" if value is None else value)
        except ValueError:
            number = math.nan
        if not abs(number) < 1e9:
            raise InvalidArgumentError(f"truncation must be a finite number; got {value!r:.{_SHOWN}}.")
        return np.float32(number)

    def end(self) -> None:
        """
        Raises:
            InvalidArgumentError: a field is left that nobody took.
        """
        for name in self._left:
            raise InvalidArgumentError(
                f"the query has an unknown field {name!r:.{_SHOWN}}; there are {', '.join(sorted(self._known))}."
            )


def parse_reference(text: str) -> Reference:
    """
    Raises:
        InvalidArgumentError: the digest is not a SHA-256.
        NotFoundError: no model can have this name.
    """
    name, at, digest = text.partition("@")
    if not is_model_name(name):
        raise NotFoundError(f"there is no model {name!r:.{_SHOWN}}. GET /v1/models lists those that there are.")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidArgumentError(
            f"digest must be a SHA-256, 64 of 0-9 and a-f; got {digest!r:.{_SHOWN}}. GET /v1/models/{name} says it."
        )
    return Reference(name=name, digest=digest or None)


def parse_seed(text: str) -> int:
    """
    Raises:
        InvalidArgumentError: not within [0, 2^64).
    """
    if not _SEED.fullmatch(text) or int(text) >= 2**64:
        raise InvalidArgumentError(f"seed must be a whole number within [0, 2^64); got {text!r:.{_SHOWN}}.")
    return int(text)


def parse_seed_list(text: str, *, most: int) -> list[int]:
    """Numbers and ranges, as in 0-63 or 1,5,9-12.

    Raises:
        InvalidArgumentError: of another form, out of range, or more than `most`.
    """
    try:
        return list(list_seeds(parse_seeds(text), max_count=most))
    except ValueError as error:
        raise InvalidArgumentError(str(error).replace("--seeds", "seeds")) from None


def parse_label(text: str | None, info: ModelInfo) -> int | None:
    """The index of a label by name or index; a name wins.

    Raises:
        InvalidArgumentError: the model has no such label.
    """
    if text is None:
        return None
    if text in info.labels:
        return info.labels.index(text)
    if _WHOLE.fullmatch(text) and 0 <= int(text) < len(info.labels):
        return int(text)
    names = ", ".join(info.labels[:20]) or "none: it is unconditional"
    raise InvalidArgumentError(f"label must be a label of {info.name} ({names}) or its index; got {text!r:.{_SHOWN}}.")


def parse_latent(text: str, info: ModelInfo) -> bytes:
    """The bytes of a latent in an address.

    Raises:
        InvalidArgumentError: not base64url of finite float32 of the model's latent_shape.
    """
    size = 4 * math.prod(info.latent_shape)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size:
        raise InvalidArgumentError(
            f"latent must be base64url of {size} bytes, little-endian float32 {list(info.latent_shape)}; got "
            f"{len(text)} characters that begin {text[:12]!r}."
        )
    if not np.isfinite(latent_array(data)).all():
        raise InvalidArgumentError("latent must hold finite numbers.")
    return data


def latent_array(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, "<f4").astype(np.float32)


def file_format(suffix: str, accept: str | None) -> FileFormat:
    """Of an image: by the ending of its address, else by the header Accept.

    Raises:
        NotFoundError: there is no such ending.
    """
    if suffix:
        if "." + suffix not in SUFFIXES:
            raise NotFoundError(f"images end in {', '.join(SUFFIXES)}; got {suffix!r:.{_SHOWN}}.")
        return SUFFIXES["." + suffix]
    qualities = _accepted(accept or "*/*")
    offered = get_args(FileFormat)
    return max(offered, key=lambda name: (_quality(qualities, MEDIA_TYPES[name]), -offered.index(name)))


def entity_tag(address: str) -> str:
    """A strong validator of what a permanent address names."""
    return f'"{base64.urlsafe_b64encode(hashlib.sha256(address.encode()).digest()[:18]).decode()}"'


def _accepted(header: str) -> dict[str, float]:
    found = {}
    for part in header[:1000].split(","):
        media, _, parameters = part.strip().partition(";")
        match = re.search(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", parameters)
        found[media.strip().lower()] = float(match[1]) if match else 1.0
    return found


def _quality(accepted: Mapping[str, float], media: str) -> float:
    return next((accepted[entry] for entry in (media, "image/*", "*/*") if entry in accepted), 0.0)


def _truncation(value: np.float32) -> str | None:
    """The shortest text that gives this float32 again."""
    return None if value == 1 else np.format_float_positional(value, trim="-")


def _query(fields: Mapping[str, object]) -> str:
    given = {name: value for name, value in fields.items() if value is not None}
    return "?" + urlencode(given, quote_via=quote) if given else ""
