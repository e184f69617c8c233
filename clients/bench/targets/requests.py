"""The requests that a target gets, in turn. They are made beforehand, so that sending one costs as little as it can.

Every CHECK_EVERYth has a golden seed as its first image: the answer is hashed, and must be the certificate's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from clients.bench.targets.input_data import Tensor, read_input_data
from clients.bench.targets.target import Target
from ganvas.v1 import sampler_pb2
from ganvas_core.interface import Arrays, kserve_datatype, sample_inputs

__all__ = ["CHECK_EVERY", "NUM_DISTINCT", "Request", "direct_request", "make_requests", "sha256_of"]

NUM_DISTINCT = 256
CHECK_EVERY = 8


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call's worth."""

    body: Any
    """Serialized; in process the arrays."""
    expected: str | None = None
    """SHA-256 of the first image of the answer; None: it is not looked at."""
    checked: bool = False
    """Whether the answer is looked at."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The images of one request: one truncation for all, a label each."""

    seeds: NDArray[np.uint64]
    truncation: float
    labels: NDArray[np.int64] | None
    expected: str | None
    checked: bool


def make_requests(target: Target, num_dimensions: Mapping[str, int] | None = None) -> list[Request]:
    """NUM_DISTINCT of them, or as many as the target's file of input data has.

    Args:
        num_dimensions: of the server's inputs, by name. Tensors of a file that have as many have no batch dimension.
    Raises:
        UsageError: the file cannot be used.
    """
    if target.input_data:
        return _given_requests(target, num_dimensions or {})
    body = {"service": _service_body, "kserve": _kserve_body, "http": _http_body, "process": _arrays}[target.kind]
    rows = [_rows(target, i) for i in range(NUM_DISTINCT)]
    return [Request(body=body(target, row), expected=row.expected, checked=row.checked) for row in rows]


def _rows(target: Target, index: int) -> _Rows:
    first = index * target.batch_size
    seeds = np.arange(first, first + target.batch_size, dtype=np.uint64)
    labels = (seeds % np.uint64(target.num_labels)).astype(np.int64) if target.num_labels else None
    checked = index % CHECK_EVERY == 0
    if not (checked and target.golden):
        return _Rows(seeds=seeds, truncation=1.0, labels=labels, expected=None, checked=checked)
    golden = target.golden[index // CHECK_EVERY % len(target.golden)]
    seeds[0] = golden.seed
    if labels is not None and golden.label is not None:
        labels[0] = golden.label
    return _Rows(seeds=seeds, truncation=golden.truncation, labels=labels, expected=golden.sha256, checked=True)


def direct_request(
    model: str,
    seeds: Sequence[int] | NDArray[np.uint64],
    *,
    truncation: float = 1.0,
    labels: Sequence[int] | NDArray[Any] | None = None,
) -> bytes:
    """A serialized ModelInferRequest of the sampler.

    Args:
        labels: one a seed; None for an unconditional model.
    """
    return _model_infer(model, sample_inputs(seeds, truncation, labels))


def _model_infer(model: str, inputs: Arrays) -> bytes:
    message = service_pb2.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        message.inputs.add(name=name, datatype=kserve_datatype(array.dtype), shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    return bytes(message.SerializeToString())


def _service_body(target: Target, rows: _Rows) -> bytes:
    labels = () if rows.labels is None else rows.labels.tolist()
    seeds = rows.seeds.tolist()
    return sampler_pb2.SampleRequest(
        model=target.model,
        seeds=seeds,
        labels=labels,
        truncation=rows.truncation,
        format=f"FORMAT_{target.image_format.upper()}",
    ).SerializeToString()


def _kserve_body(target: Target, rows: _Rows) -> bytes:
    return direct_request(target.model, rows.seeds, truncation=rows.truncation, labels=rows.labels)


def _http_body(target: Target, rows: _Rows) -> bytes:
    label = None if rows.labels is None else int(rows.labels[0])
    return json.dumps({"seed": int(rows.seeds[0]), "truncation": rows.truncation, "label": label}).encode()


def _arrays(target: Target, rows: _Rows) -> Arrays:
    return sample_inputs(rows.seeds, rows.truncation, rows.labels)


def _given_requests(target: Target, num_dimensions: Mapping[str, int]) -> list[Request]:
    given = read_input_data(Path(target.input_data))
    answers = given.validation_data or [{}] * len(given.data)
    is_batched = not all(
        len(tensor.shape) == num_dimensions.get(name) for entry in given.data for name, tensor in entry.items()
    )
    return [_given(target, *pair, is_batched=is_batched) for pair in zip(given.data, answers, strict=True)]


def _given(target: Target, entry: dict[str, Tensor], answer: dict[str, Tensor], *, is_batched: bool) -> Request:
    message = service_pb2.ModelInferRequest(model_name=target.model)
    for name, tensor in entry.items():
        shape = [target.batch_size, *tensor.shape] if is_batched else tensor.shape
        message.inputs.add(name=name, datatype=tensor.datatype, shape=shape)
        message.raw_input_contents.append(tensor.raw(target.batch_size))
    first = next(iter(answer.values()), None)
    expected = None if first is None else sha256_of(first.raw())
    return Request(body=message.SerializeToString(), expected=expected, checked=True)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
