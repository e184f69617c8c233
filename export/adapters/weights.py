"""Weights from a file: safetensors, or a PyTorch file of tensors alone."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from export.errors import InputError

__all__ = ["load_into", "read_weights"]

_MAX_LISTED = 8


def read_weights(path: Path, *, trust_pickle: bool = False) -> dict[str, Any]:
    """The state dict in `path`, or the dictionary that holds several.

    Args:
        trust_pickle: read a file that is more than tensors, which runs whatever code is in it.
    Raises:
        InputError: missing, damaged, or a pickle that needs code to run.
    """
    if not path.is_file():
        raise InputError(f"--weights {path} is no file. Give the .safetensors, .pt or .pth file of the weights.")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise InputError(f"--weights {path} is not a safetensors file: {error}. Save it again.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickle protocols
            found = torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle:
            raise InputError(f"--weights {path} is not a PyTorch file: {_first_sentence(error)}.") from None
        raise InputError(
            f"--weights {path} holds more than tensors, and reading it would run code from the file "
            f"({_reason(error)}). Save its state_dict() alone, as safetensors, or, if you trust who made it: "
            "--trust-pickle."
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, AttributeError, ImportError, KeyError) as error:
        raise InputError(f"--weights {path} cannot be read: {_first_sentence(error)}. Save it again.") from None
    if isinstance(found, nn.Module):  # only with trust_pickle
        return dict(found.state_dict())
    if not isinstance(found, dict):
        raise InputError(f"--weights {path} must hold a state dict; got {type(found).__name__}. Save state_dict().")
    return found


def load_into(network: nn.Module, weights: dict[str, Any], *, ignore: tuple[str, ...] = ()) -> None:
    """Load a state dict, every key of which must fit.

    Args:
        ignore: endings of keys that may be missing or too many.
    Raises:
        InputError: lists keys that are missing, too many or of another shape.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in weights and not key.endswith(ignore)]
    extra = [key for key in weights if key not in wanted and not key.endswith(ignore)]
    shapes = [
        f"{key} {list(getattr(weights[key], 'shape', []))} for {list(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in weights and getattr(weights[key], "shape", None) != tensor.shape
    ]
    faults = [
        f"{what}: {', '.join(keys[:_MAX_LISTED])}{f' and {len(keys) - _MAX_LISTED} more' * (len(keys) > _MAX_LISTED)}"
        for what, keys in (("missing", missing), ("too many", extra), ("of another shape", shapes))
        if keys
    ]
    if faults:
        raise InputError(
            f"the weights do not fit {type(network).__name__}; keys {'; '.join(faults)}. "
            "Give the weights of this very network."
        )
    network.load_state_dict({key: tensor for key, tensor in weights.items() if key in wanted}, strict=False)


def _reason(error: Exception) -> str:
    """What torch says of it, without its advice."""
    text = str(error)
    marker = "WeightsUnpickler error: "
    return _first_sentence(text.split(marker, 1)[1] if marker in text else text)


def _first_sentence(error: object) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.split(". ")[0].rstrip(".")[:200]
