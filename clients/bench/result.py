"""What one measurement gives: how many images, how long each call took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """Calls of `batch_size` images each, finished within `elapsed_s` seconds."""

    batch_size: int
    elapsed_s: float
    latencies_ms: tuple[float, ...]
    """One a call, in the order they finished."""

    @property
    def images_per_s(self) -> float:
        return len(self.latencies_ms) * self.batch_size / self.elapsed_s

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ms, percent))
