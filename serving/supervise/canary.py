"""A canary: one golden answer, made again by Triton as any client would have it made."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganvas_core.interface import Interface, joined, kserve_datatype
from ganvas_core.names import Role
from serving.repository.golden import compare_one_golden, golden_inputs
from serving.repository.reader import ModelVersion
from serving.triton.http_api import TritonHttp

__all__ = ["CanaryError", "LateError", "make_one"]

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The HTTP header that tells Triton where a request's JSON ends."""


class CanaryError(Exception):
    """Triton gave no answer, or not in time."""


class LateError(CanaryError):
    """Not in time."""


def make_one(http: TritonHttp, entry: ModelVersion, role: Role, turn: int, timeout_s: float) -> None:
    """Make one golden answer and compare it with the certificate. It blocks.

    Args:
        role: one that has golden answers.
        turn: which: they take turns.
    Raises:
        CanaryError: no answer, or not in time.
        GoldenMismatchError: another one.
    """
    part = entry.part(role)
    index = turn % len(entry.golden(role))
    one = {name: array[index : index + 1] for name, array in golden_inputs(entry, role).items()}
    # Tensors follow the JSON as they are: an image in JSON would cost Triton more than its computing.
    inputs: list[dict[str, Any]] = [
        {
            "name": name,
            "datatype": kserve_datatype(array.dtype),
            "shape": array.shape,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in one.items()
    ]
    outputs = [{"name": tensor.name, "parameters": {"binary_data": True}} for tensor in part.interface.outputs]
    header = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body = b"".join([header, *(array.tobytes() for array in one.values())])
    path = f"/v2/models/{part.name}/versions/{entry.version}/infer"
    try:
        status, reply = http.ask("POST", path, body, {HEADER_LENGTH: str(len(header))}, timeout_s=timeout_s)
    except (OSError, HTTPException) as error:
        kind = LateError if isinstance(error, TimeoutError) else CanaryError
        raise kind(f"{part.name} version {entry.version} gave no answer within {timeout_s:g} s: {error}") from None
    try:
        if status != 200:
            raise ValueError
        made = _answer(reply, part.interface)
    except (ValueError, KeyError, TypeError):
        raise CanaryError(
            f"{part.name} version {entry.version} answered {status}: {reply[:200].decode(errors='replace')}"
        ) from None
    compare_one_golden(entry, index, made, role)


def _answer(reply: bytes, interface: Interface) -> NDArray[Any]:
    """What the reply to a batch of one holds, as one array without the batch dimension.

    Raises:
        ValueError, KeyError, TypeError: it is not complete.
    """
    # Latin-1 has a character a byte, so that the end of the JSON is the place of the first tensor.
    head, place = json.JSONDecoder().raw_decode(reply.decode("latin-1"))
    raw = {}
    for output in head["outputs"]:
        end = place + output["parameters"]["binary_data_size"]
        raw[output["name"]] = reply[place:end]
        place = end
    outputs = [np.frombuffer(raw[tensor.name], tensor.dtype).reshape(1, *tensor.dims) for tensor in interface.outputs]
    answer: NDArray[Any] = joined(outputs)[0]
    return answer
