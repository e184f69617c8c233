"""A copy of a network that shares its weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["share_weights"]


def share_weights(network: nn.Module) -> nn.Module:
    """A copy with modules, parameters and buffers of its own, whose elements are the network's: to replace some.

    What writes into a weight in place writes into the network's.
    """
    shared: dict[int, Tensor] = {}
    with torch.no_grad():
        for parameter in network.parameters():
            shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
        for buffer in network.buffers():
            shared[id(buffer)] = buffer.detach()
    return copy.deepcopy(network, shared)
