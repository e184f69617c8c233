"""Spectral normalization: every layer may stretch its input by a factor of one at most.

Source: arXiv:1802.05957.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["normalize_spectrally"]


def normalize_spectrally(network: nn.Module) -> nn.Module:
    """Normalize the weight of every convolution and linear layer of a network, in place."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(module)
    return network
