"""Writes a graph as an ONNX file without building the file in memory, and beside it its weights where they are large.

Protocol Buffers cannot hold 2 GiB. Above a limit below that, the weights lie in NAME.data beside NAME, each at an
offset that the graph names; the graph then holds their SHA-256, so that its own hash still stands for all of the model.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from export.graph.guards import check_external_data
from export.graph.tensors import external_place, num_bytes, place_in_file, to_array
from ganvas_core.names import Role

__all__ = ["EXTERNAL_BYTES", "GraphFile", "write_graph", "write_graphs"]

EXTERNAL_BYTES = 1_900_000_000
"""The largest graph that is one file: below the 2 GiB of Protocol Buffers, with room for nodes."""

_SMALLEST = 1024
"""Bytes of the smallest weight that goes beside the graph: runtimes read shapes and the like while they load."""
_ALIGNMENT = 4096
"""Of weights in their file: that of memory pages, so that they can be mapped."""
_CHUNK = 2**22

_GRAPH_FIELD = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER_FIELD = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA_FIELD = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


@dataclass(frozen=True, kw_only=True)
class GraphFile:
    """A graph as it is published."""

    path: Path
    sha256: str
    num_bytes: int
    """The weights beside it included."""
    data: Path | None = None
    """The weights beside it."""
    data_sha256: str | None = None


def write_graphs(
    graphs: Mapping[tuple[Role, str], ModelProto], folder: Path, *, external_bytes: int = EXTERNAL_BYTES
) -> dict[tuple[Role, str], GraphFile]:
    """Write the graph of each role and file name into a folder of the role's; weights that are the same, once.

    Raises:
        GateError: a weight's file is missing.
    """
    files: dict[tuple[Role, str], GraphFile] = {}
    written: dict[str, Path] = {}
    for (role, file_name), model in graphs.items():
        (folder / role).mkdir(parents=True, exist_ok=True)
        file = files[role, file_name] = write_graph(model, folder / role / file_name, external_bytes=external_bytes)
        if file.data is not None and file.data_sha256 is not None:
            same = written.setdefault(file.data_sha256, file.data)
            if same != file.data:
                file.data.unlink()
                file.data.hardlink_to(same)
    return files


def write_graph(model: ModelProto, path: Path, *, external_bytes: int = EXTERNAL_BYTES) -> GraphFile:
    """Write `path`, and path.data if the weights are more than external_bytes.

    One file has the bytes of model.SerializeToString(deterministic=True), with the weights in it.

    Raises:
        GateError: a weight's file is missing.
    """
    if sum(map(num_bytes, model.graph.initializer)) <= external_bytes:
        sha256, size = _write(path, _serialized(model))
        return GraphFile(path=path, sha256=sha256, num_bytes=size)
    data = path.with_name(f"{path.name}.data")
    outside, placed = _place_outside(model, data)
    data_sha256, data_size = _write(data, _aligned(placed))
    outside.metadata_props.add(key="weights_sha256", value=data_sha256)
    sha256, size = _write(path, iter([outside.SerializeToString(deterministic=True)]))
    check_external_data(onnx.load(path, load_external_data=False), path.parent)
    return GraphFile(path=path, sha256=sha256, num_bytes=size + data_size, data=data, data_sha256=data_sha256)


def _place_outside(model: ModelProto, data: Path) -> tuple[ModelProto, list[TensorProto]]:
    """The graph with its large weights in `data`, and those weights in their order there.

    The tables of the noise stay inside, so that the graphs of one network have the same file of weights.
    """
    outside = _without_weights(model)
    placed, offset = [], 0
    for tensor in model.graph.initializer:
        if num_bytes(tensor) >= _SMALLEST and not tensor.name.startswith("noise/"):
            offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
            placed.append(tensor)
            new = outside.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            place_in_file(new, Path(data.name), offset, num_bytes(tensor))
            offset += num_bytes(tensor)
        else:
            outside.graph.initializer.append(numpy_helper.from_array(to_array(tensor), tensor.name))
    return outside, placed


def _aligned(tensors: list[TensorProto]) -> Iterator[bytes]:
    offset = 0
    for tensor in tensors:
        padding = -offset % _ALIGNMENT
        yield bytes(padding)
        yield from _elements(tensor)
        offset += padding + num_bytes(tensor)


def _serialized(model: ModelProto) -> Iterator[bytes]:
    """The graph as Protocol Buffers: each message is a field's number, its length and its content."""
    bare = _without_weights(model)
    first, rest = _split(bare.graph, _INITIALIZER_FIELD)
    heads = [_head(tensor) for tensor in model.graph.initializer]
    lengths = [len(head) + _raw_length(tensor) for head, tensor in zip(heads, model.graph.initializer, strict=True)]
    size = len(first) + len(rest) + sum(len(_prefix(_INITIALIZER_FIELD, length)) + length for length in lengths)
    bare.ClearField("graph")
    before, after = _split(bare, _GRAPH_FIELD)
    yield before + _prefix(_GRAPH_FIELD, size) + first
    for tensor, head, length in zip(model.graph.initializer, heads, lengths, strict=True):
        yield _prefix(_INITIALIZER_FIELD, length) + head
        if external_place(tensor) is not None:
            yield _prefix(_RAW_DATA_FIELD, num_bytes(tensor))
            yield from _elements(tensor)
    yield rest + after


def _head(tensor: TensorProto) -> bytes:
    """A weight as a message, without its elements if they lie in a file."""
    if external_place(tensor) is None:
        return tensor.SerializeToString(deterministic=True)
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims).SerializeToString()


def _raw_length(tensor: TensorProto) -> int:
    """What follows the head."""
    if external_place(tensor) is None:
        return 0
    return len(_prefix(_RAW_DATA_FIELD, num_bytes(tensor))) + num_bytes(tensor)


def _elements(tensor: TensorProto) -> Iterator[bytes]:
    place = external_place(tensor)
    if place is None:
        yield to_array(tensor).tobytes()
        return
    path, offset = place
    with path.open("rb") as file:
        file.seek(offset)
        left = num_bytes(tensor)
        while left:
            chunk = file.read(min(left, _CHUNK))
            yield chunk
            left -= len(chunk)


def _split(message: ModelProto | GraphProto, number: int) -> tuple[bytes, bytes]:
    """A message's fields below a number, and those above it: they are written in the order of their numbers."""
    parts = []
    for below in (True, False):
        part = copy.copy(message)
        for field in part.DESCRIPTOR.fields:
            if field.number == number or (field.number < number) != below:
                part.ClearField(field.name)
        parts.append(part.SerializeToString(deterministic=True))
    return parts[0], parts[1]


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy without initializers, made without copying them."""
    bare = ModelProto()
    for descriptor, value in model.ListFields():
        if descriptor.number != _GRAPH_FIELD:
            _copy_field(bare, descriptor.name, value)
    for descriptor, value in model.graph.ListFields():
        if descriptor.number != _INITIALIZER_FIELD:
            _copy_field(bare.graph, descriptor.name, value)
    return bare


def _copy_field(message: ModelProto | GraphProto, name: str, value: object) -> None:
    if isinstance(value, str | bytes | int):
        setattr(message, name, value)
    else:
        getattr(message, name).MergeFrom(value)


def _prefix(number: int, length: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _write(path: Path, chunks: Iterator[bytes]) -> tuple[str, int]:
    """Write a file, and give its SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            size += file.write(chunk)
    return digest.hexdigest(), size
