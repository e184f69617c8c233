"""Calls a network of anyone's: whatever its code raises becomes one line that says where."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.errors import InputError, first_line

__all__ = ["ANY_ERROR", "NetworkError", "call_network", "place_of"]

ANY_ERROR = (Exception, SystemExit)
"""What code of a user's may raise and is a defect of that code: sys.exit() among it, which else would end the export
as if it had done its work."""

_PACKAGES = ("site-packages", "dist-packages")


class NetworkError(InputError):
    """A network's own code failed."""


def call_network(part: str, network: nn.Module, inputs: list[Tensor], *, remedy: str = "Mend forward.") -> Any:
    """What the network makes of a batch, without gradients.

    Args:
        part: what the message calls it: network, encoder.
        remedy: the next step, if it fails.
    Raises:
        NetworkError: it raised.
    """
    try:
        with torch.no_grad():
            return network(*inputs)
    except ANY_ERROR as error:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
        raise NetworkError(
            f"the {part} raised {type(error).__name__}{place_of(error)} on a batch of {len(inputs[0])}, inputs of "
            f"{shapes}: {first_line(error)} {remedy}"
        ) from None


def place_of(error: BaseException) -> str:
    """` in my_model.py, line 12`: the innermost line that is neither a package's nor ours; empty if there is none."""
    ours = Path(__file__).parents[1]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not path.is_relative_to(ours) and not set(_PACKAGES) & set(path.parts):
            return f" in {path.name}, line {frame.lineno}"
    return ""
