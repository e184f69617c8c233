"""Directions in latent space, as `./ganvas directions` finds them and the studio offers them: directions.json.

The file lies beside the certificate, which does not list it: it changes no image. It has a hash of its own, and names
the digest of the model that it was found for.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

__all__ = ["DIRECTIONS_FILE", "Direction", "Directions", "DirectionsError"]

DIRECTIONS_FILE = "directions.json"


class DirectionsError(Exception):
    """A directions file that cannot be read, or was changed."""


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One way to move a latent."""

    name: str
    kind: Literal["principal", "label"]
    """principal: along which images vary most. label: from the mean of all images to that of one label."""
    explained: float | None
    """Of a principal one: its part of the variance of the images."""
    vector: str
    """Base64 of little-endian float32 of the latent's shape: what a step of 1, a standard deviation, adds."""

    @classmethod
    def of(
        cls, name: str, kind: Literal["principal", "label"], vector: NDArray[np.floating[Any]], explained: float | None
    ) -> Direction:
        encoded = base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
        return cls(name=name, kind=kind, explained=explained, vector=encoded)


@dataclass(frozen=True, kw_only=True)
class Directions:
    """What was found for one version of a model."""

    format: Literal[1] = 1
    model: str
    digest: str
    """SHA-256 of the ONNX file whose images they were found in, as in an image's address."""
    latent_shape: tuple[int, ...]
    num_seeds: int
    """Images that they were found from: of the seeds from 0."""
    directions: tuple[Direction, ...]

    def __post_init__(self) -> None:
        size = 4 * math.prod(self.latent_shape)
        for direction in self.directions:
            try:
                data = base64.b64decode(direction.vector, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"direction {direction.name!r:.60} is not base64.") from None
            if len(data) != size or not np.isfinite(np.frombuffer(data, "<f4")).all():
                raise ValueError(f"direction {direction.name!r:.60} must be {size // 4} finite float32.")

    @property
    def sha256(self) -> str:
        """Of everything in it."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps({"sha256": self.sha256, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Directions:
        """
        Raises:
            DirectionsError: missing, malformed, or its hash is another.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            expected = data.pop("sha256")
            found = TypeAdapter(cls).validate_python(data)
        except FileNotFoundError:
            raise DirectionsError(f"there is no {path}.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise DirectionsError(f"{path} is not a directions file: {reason}.") from None
        if found.sha256 != expected:
            raise DirectionsError(f"{path} was changed: its SHA-256 is {found.sha256[:16]}…, not {expected!r:.20}.")
        return found
