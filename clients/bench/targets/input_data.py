"""Requests of one's own, from a file of perf_analyzer's format with the data type beside each tensor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype

from ganvas_core.cli import UsageError

__all__ = ["InputData", "Tensor", "read_input_data"]

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]
FORMAT = "It takes perf_analyzer's JSON with the data type beside each tensor: docs/benchmarking.md shows one."


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or answer, without a batch dimension."""

    content: list[Any]
    shape: list[int]
    datatype: Datatype

    def __post_init__(self) -> None:
        if len(self.content) != math.prod(self.shape):
            raise ValueError(f"content has {len(self.content)} values, and shape {self.shape} wants others")
        try:
            self.array()
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"content is not {self.datatype}: {error}") from None

    def array(self) -> NDArray[Any]:
        """Of the tensor's shape; of BYTES, text is UTF-8."""
        if self.datatype == "BYTES":
            return np.array([str(value).encode() for value in self.content], object).reshape(self.shape)
        return np.array(self.content, triton_to_np_dtype(self.datatype)).reshape(self.shape)

    def raw(self, batch_size: int = 1) -> bytes:
        """As KServe v2 carries it, `batch_size` times."""
        array = np.repeat(self.array()[None], batch_size, 0)
        if self.datatype == "BYTES":
            return bytes(serialize_byte_tensor(array).item())
        return array.tobytes()


@dataclass(frozen=True, kw_only=True)
class InputData:
    """Every request, and the answers if they are known."""

    data: list[dict[str, Tensor]] = Field(min_length=1)
    validation_data: list[dict[str, Tensor]] | None = None

    def __post_init__(self) -> None:
        if self.validation_data is not None and len(self.validation_data) != len(self.data):
            raise ValueError(
                f"validation_data has {len(self.validation_data)} entries, and data {len(self.data)}: give one answer "
                "for each request, or none"
            )


def read_input_data(path: Path) -> InputData:
    """
    Raises:
        UsageError: the file cannot be read or used; says where it is wrong.
    """
    try:
        return TypeAdapter(InputData).validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--input-data {path}: {error.strerror}. {FORMAT}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--input-data {path}: {where + ': ' if where else ''}{what}. {FORMAT}") from None
