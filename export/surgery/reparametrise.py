"""Weight norm and spectral norm: the weight that they compute on every run, computed once."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm

__all__ = ["fold_reparametrisations"]


def fold_reparametrisations(network: nn.Module) -> int:
    """Replace every parametrized weight of `network`, in place and in eval mode, by its value. Gives how many.

    Both of torch's ways are found: parametrizations, and the hooks that came before them.
    """
    count = 0
    for module in network.modules():
        if parametrize.is_parametrized(module):
            _give_own_class(module)
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, str(name), leave_parametrized=True)
                count += 1
        for hook in list(module._forward_pre_hooks.values()):
            kind, name = type(hook).__name__, getattr(hook, "name", "")
            if kind not in ("WeightNorm", "SpectralNorm"):
                continue
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                (remove_weight_norm if kind == "WeightNorm" else remove_spectral_norm)(module, name)
            count += 1
    return count


def _give_own_class(module: nn.Module) -> None:
    """Copies of a parametrized module share its class, from which removing a parametrization takes the attribute."""
    shared = type(module)
    namespace = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, namespace)
