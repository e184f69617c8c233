"""The sampler contract: the inputs and outputs of the three Triton models that one exported model gives.

    NAME           seed UINT64 [1], truncation FP32 [1], label INT64 [1] if conditional → image UINT8 [H, W, C]
    NAME-decode    latent FP32 [Z], label if conditional                               → image UINT8 [H, W, C]
    NAME-encode    image UINT8 [H, W, C]                                               → mean, logvar FP32 [Z]

The batch dimension comes first in every tensor and is not listed here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from onnx import TensorProto

from export.errors import InputError
from ganvas_client.certificate import Role

__all__ = [
    "BATCH",
    "OPSET",
    "TRUNCATION_MAX",
    "Interface",
    "Role",
    "Tensor",
    "check_name",
    "companions",
    "interface",
    "triton_name",
]

BATCH = "batch"
"""Name of the symbolic batch dimension in every graph."""

OPSET = 18
"""On ONNX Runtime's CUDA provider several kernels of later opsets fall to the CPU: Pad-19, ConvTranspose-22."""

TRUNCATION_MAX = 1.5

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_SUFFIX: dict[Role, str] = {"sampler": "", "decode": "-decode", "encode": "-encode"}


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output, without its batch dimension."""

    name: str
    data_type: int
    """An onnx.TensorProto data type."""
    dims: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What a Triton model takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def interface(role: Role, *, image: tuple[int, int, int], latent_dim: int, num_labels: int) -> Interface:
    """The contract of a role.

    Args:
        image: height, width, channels.
        num_labels: 0 for an unconditional model.
    """
    pixels = Tensor(name="image", data_type=TensorProto.UINT8, dims=image)
    label = (Tensor(name="label", data_type=TensorProto.INT64, dims=(1,)),) if num_labels else ()
    latent, mean, logvar = (
        Tensor(name=name, data_type=TensorProto.FLOAT, dims=(latent_dim,)) for name in ("latent", "mean", "logvar")
    )
    if role == "encode":
        return Interface(inputs=(pixels,), outputs=(mean, logvar))
    if role == "decode":
        return Interface(inputs=(latent, *label), outputs=(pixels,))
    seed = Tensor(name="seed", data_type=TensorProto.UINT64, dims=(1,))
    truncation = Tensor(name="truncation", data_type=TensorProto.FLOAT, dims=(1,))
    return Interface(inputs=(seed, truncation, *label), outputs=(pixels,))


def triton_name(name: str, role: Role) -> str:
    return name + _SUFFIX[role]


def companions(name: str) -> tuple[str, ...]:
    """The Triton models that may come with NAME."""
    return tuple(triton_name(name, role) for role in _SUFFIX if role != "sampler")


def check_name(name: str) -> None:
    """Raise InputError unless `name` can be a model of ours."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"--name must be 1 to 63 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit; got {name!r:.80}."
        )
    for suffix in _SUFFIX.values():
        if suffix and name.endswith(suffix):
            raise InputError(f"--name must not end in {suffix}, which names a companion model; got {name!r}.")
