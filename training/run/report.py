"""What the loop tells of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["StepReport"]


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One step; the first report of a run has no losses and says where it starts from."""

    step: int
    """Steps done."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """By name, every penalty among them."""
    step_s: float = 0.0
    """Time that the networks took."""
    loader_s: float = 0.0
    """Time that the step waited for its images."""
