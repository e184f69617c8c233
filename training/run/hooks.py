"""What happens to gradients right before an optimizer uses them, ahead of what the trainer itself does there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["before_update"]


def before_update(optimizer: torch.optim.Optimizer, hook: Callable[[torch.optim.Optimizer], None]) -> None:
    """Call `hook` before every update, and before any other hook, such as the clipping of gradients."""
    handle = optimizer.register_step_pre_hook(lambda optimizer, arguments, options: hook(optimizer))
    hooks: Any = optimizer._optimizer_step_pre_hooks  # an OrderedDict; there is no public way to be the first
    hooks.move_to_end(handle.id, last=False)
