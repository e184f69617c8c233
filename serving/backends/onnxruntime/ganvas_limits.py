"""What an exported model accepts, from the certificate beside it: a bad value is an error and not a wrong image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Limits", "read_limits"]

CERTIFICATE_FILE = "certificate.json"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the values of a sampler's inputs. The checks take some microseconds a batch."""

    truncation_max: float
    num_labels: int
    """0: the model is unconditional and has no input label."""

    def problem(self, feeds: Mapping[str, NDArray[Any]]) -> str | None:
        """What is wrong with the values, named as the sampling service names it; None if nothing is."""
        if (truncation := feeds.get("truncation")) is not None:
            good = (truncation >= 0) & (truncation <= np.float32(self.truncation_max))  # NaN is neither
            if not good.all():
                return f"truncation must be within [0, {self.truncation_max:g}]; got {truncation[~good][0]:g}."
        if self.num_labels and (label := feeds.get("label")) is not None:
            good = label.view(np.uint64) < self.num_labels  # a negative one is huge there
            if not good.all():
                return f"label must be within [0, {self.num_labels - 1}]; got {label[~good][0]}."
        if (latent := feeds.get("latent")) is not None:
            good = np.isfinite(latent)
            if not good.all():
                return f"latent must be finite; got {latent[~good][0]}."
        return None


def read_limits(version_folder: Path) -> Limits | None:
    """The limits of one of our sample and decode models. None: another model, of which any value may be meant."""
    try:
        certificate = json.loads((version_folder / CERTIFICATE_FILE).read_bytes())
        if certificate["role"] not in ("sample", "decode"):
            return None
        return Limits(truncation_max=float(certificate["truncation_max"]), num_labels=len(certificate["labels"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
