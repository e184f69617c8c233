"""A canary: one golden image, made again by Triton as any client would have it made."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any, Literal

import numpy as np

from ganvas_core.interface import kserve_datatype
from ganvas_core.names import triton_name
from serving.repository.golden import compare_one_golden, golden_inputs
from serving.repository.reader import ModelVersion
from serving.triton.http_api import TritonHttp

__all__ = ["CanaryError", "LateError", "make_one"]


class CanaryError(Exception):
    """Triton gave no image, or not in time."""


class LateError(CanaryError):
    """Not in time."""


def make_one(
    http: TritonHttp, entry: ModelVersion, role: Literal["sample", "decode"], turn: int, timeout_s: float
) -> None:
    """Make one golden image and compare it with the certificate. It blocks.

    Args:
        turn: which: they take turns.
    Raises:
        CanaryError: no image, or not in time.
        GoldenMismatchError: another image.
    """
    model = triton_name(entry.name, role)
    index = turn % len(entry.golden(role))
    inputs: list[dict[str, Any]] = []
    for name, array in golden_inputs(entry, role).items():
        one = array[index : index + 1]
        tensor = {
            "name": name,
            "datatype": kserve_datatype(one.dtype),
            "shape": one.shape,
            "data": one.ravel().tolist(),
        }
        inputs.append(tensor)
    outputs = [{"name": "image", "parameters": {"binary_data": True}}]
    body = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    path = f"/v2/models/{model}/versions/{entry.version}/infer"
    try:
        status, reply = http.ask("POST", path, body, timeout_s=timeout_s)
    except (OSError, HTTPException) as error:
        kind = LateError if isinstance(error, TimeoutError) else CanaryError
        raise kind(f"{model} version {entry.version} gave no image within {timeout_s:g} s: {error}") from None
    certificate = entry.certificate
    shape = (certificate.height, certificate.width, certificate.channels)
    # After the JSON of the reply comes the one output.
    raw = reply[-int(np.prod(shape)) :]
    if status != 200 or len(raw) != int(np.prod(shape)):
        raise CanaryError(f"{model} version {entry.version} answered {status}: {reply[:200].decode(errors='replace')}")
    compare_one_golden(entry, index, np.frombuffer(raw, np.uint8).reshape(shape), role)
