"""What a person may choose about an export."""

from __future__ import annotations

from dataclasses import dataclass

from export.cases import GOLDEN_SEEDS
from export.errors import InputError

__all__ = ["ExportOptions"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Raises InputError where a value is out of its range."""

    max_batch_size: int = 16
    """Images in one Triton batch."""
    instances: int = 1
    """Triton instances on the CPU: batches computed at once."""
    threads: int = 1
    """Compute threads of each instance on the CPU, and of the proof."""
    fp32_nodes: tuple[str, ...] = ()
    """Network nodes to keep in float32 in the fp16 file, as a failed export names them."""
    num_golden: int = 8
    """Golden seeds in the certificate, which serving makes again before it says ready."""
    num_parity_seeds: int = 32
    """Seeds that parity and batch invariance are proven for, the golden ones included."""

    def __post_init__(self) -> None:
        for field, low, high in (
            ("max_batch_size", 1, 1024),
            ("instances", 1, 256),
            ("threads", 1, 256),
            ("num_golden", 1, len(GOLDEN_SEEDS)),
            ("num_parity_seeds", self.num_golden, 4096),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise InputError(f"--{field.replace('_', '-')} must be within [{low}, {high}]; got {value}.")
