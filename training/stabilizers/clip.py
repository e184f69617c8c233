"""Gradient clipping."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["clip_before_step"]


def clip_before_step(optimizer: torch.optim.Optimizer, max_norm: float) -> None:
    """From now on, each step scales the gradients of all its parameters down to a joint norm of max_norm.

    A hook of the optimizer, so that it sees what the hooks before it have made of the gradients of several processes.
    """

    def clip(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)

    optimizer.register_step_pre_hook(clip)
