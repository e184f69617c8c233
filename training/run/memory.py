"""Out of memory: what to lower."""

from __future__ import annotations

import torch

from ganvas_core.cli import UserError
from training.config import TrainConfig

__all__ = ["OutOfMemoryError", "explain_memory_error"]

SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory", "std::bad_alloc")
"""What PyTorch's allocators say where they raise no class of their own."""


class OutOfMemoryError(UserError):
    """The run needs more memory than there is."""


def explain_memory_error(error: BaseException, config: TrainConfig, *, device: str) -> OutOfMemoryError | None:
    """What to tell the user of an exception that means a lack of memory; None for any other."""
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if not (lacking or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS))):
        return None
    smaller = max(2, config.batch_size // 2)
    half = "" if config.precision == "bf16" else ", or compute in bf16 (--set precision=bf16)"
    return OutOfMemoryError(
        f"out of memory on {device} with batch_size {config.batch_size} and images of "
        f"{'x'.join(str(size) for size in config.network.image_shape)}. Lower the batch (--set batch_size={smaller})"
        f"{half}; if that is not enough, take a smaller network (--set network.…). What was saved before is intact."
    )
