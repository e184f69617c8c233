"""The sampler contract: the inputs and outputs of the Triton models that one exported model gives.

    NAME         seed UINT64 [1], truncation FP32 [1], label INT64 [1] if conditional → image UINT8 [H, W, C]
    NAME-decode  latent FP32 [latent_shape], label if conditional                     → image UINT8 [H, W, C]
    NAME-encode  image UINT8 [H, W, C]                                                → mean, logvar FP32 [latent_shape]

The batch dimension comes first in every tensor and is not listed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganvas_core.names import Role

__all__ = [
    "DTYPES",
    "TRUNCATION_MAX",
    "Arrays",
    "Interface",
    "Tensor",
    "decode_inputs",
    "interface",
    "joined",
    "kserve_datatype",
    "sample_inputs",
]

Arrays = dict[str, NDArray[Any]]
"""Input or output name to its rows."""

TRUNCATION_MAX = 1.5

DTYPES: dict[str, np.dtype[Any]] = {
    "UINT64": np.dtype(np.uint64),
    "INT64": np.dtype(np.int64),
    "FP32": np.dtype(np.float32),
    "UINT8": np.dtype(np.uint8),
}
"""KServe's name of a data type to NumPy's."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def kserve_datatype(dtype: np.dtype[Any]) -> str:
    """KServe's name of one of DTYPES."""
    return _NAMES[dtype]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output, without its batch dimension."""

    name: str
    datatype: str
    """As KServe v2 names it; Triton's configuration says TYPE_ before it."""
    dims: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return DTYPES[self.datatype]


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What a Triton model takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def interface(role: Role, *, image: tuple[int, int, int], latent_shape: tuple[int, ...], num_labels: int) -> Interface:
    """The contract of a role.

    Args:
        image: height, width, channels.
        num_labels: 0 for an unconditional model.
    """
    pixels = Tensor(name="image", datatype="UINT8", dims=image)
    label = (Tensor(name="label", datatype="INT64", dims=(1,)),) if num_labels else ()
    latent, mean, logvar = (
        Tensor(name=name, datatype="FP32", dims=latent_shape) for name in ("latent", "mean", "logvar")
    )
    if role == "encode":
        return Interface(inputs=(pixels,), outputs=(mean, logvar))
    if role == "decode":
        return Interface(inputs=(latent, *label), outputs=(pixels,))
    seed = Tensor(name="seed", datatype="UINT64", dims=(1,))
    truncation = Tensor(name="truncation", datatype="FP32", dims=(1,))
    return Interface(inputs=(seed, truncation, *label), outputs=(pixels,))


def sample_inputs(
    seeds: Sequence[int] | NDArray[np.uint64], truncation: ArrayLike = 1.0, labels: ArrayLike | None = None
) -> Arrays:
    """The inputs of the sampler.

    Args:
        seeds: [N].  truncation: one for all, or [N].  labels: one for all, or [N]; None for an unconditional model.
    """
    num_images = len(seeds)
    rows: Arrays = {
        "seed": np.asarray(seeds, np.uint64)[:, None],
        "truncation": _column(truncation, num_images, np.float32),
    }
    return rows if labels is None else rows | {"label": _column(labels, num_images, np.int64)}


def decode_inputs(latents: NDArray[np.float32], labels: ArrayLike | None = None) -> Arrays:
    """The inputs of decode.

    Args:
        latents: [N, *latent_shape].  labels: as in sample_inputs.
    """
    rows: Arrays = {"latent": latents}
    return rows if labels is None else rows | {"label": _column(labels, len(latents), np.int64)}


def joined(outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All that a role makes, in one array: images [N, H, W, C]; of encode [N, 2, *latent_shape], mean then logvar."""
    return outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=1)


def _column(values: ArrayLike, num_rows: int, dtype: Any) -> NDArray[Any]:
    """[num_rows, 1]"""
    column = np.empty((num_rows, 1), dtype)
    column[:, 0] = values
    return column
