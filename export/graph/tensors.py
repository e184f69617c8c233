"""Weights in files: a graph names the large ones by file, offset and length, so that its copies hold none in memory.

Inside `weights_in_files`, from_array puts what is large into a folder, a file for each content: graphs that have the
same weights share their files. Elsewhere the weights lie in the graph, as ONNX has them by default.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ganvas_core.files import temporary_folder
from ganvas_core.session import CpuSession

__all__ = [
    "FILE_BYTES",
    "external_place",
    "from_array",
    "load_graph",
    "num_bytes",
    "open_graph",
    "place_in_file",
    "to_array",
    "weights_folder",
    "weights_in_files",
    "with_relative_places",
]

FILE_BYTES = 2**16
"""The smallest weight that gets a file."""

_folder: ContextVar[Path | None] = ContextVar("weights folder", default=None)


@contextlib.contextmanager
def weights_in_files() -> Iterator[Path]:
    """A folder for weights, under TMPDIR, that is deleted at the end; the graphs made meanwhile need it."""
    with temporary_folder("ganvas-weights-") as folder:
        token = _folder.set(folder)
        try:
            yield folder
        finally:
            _folder.reset(token)


def weights_folder() -> Path | None:
    """The folder of `weights_in_files`; None elsewhere."""
    return _folder.get()


def to_array(tensor: TensorProto) -> NDArray[Any]:
    """What a weight holds; read-only, and mapped from its file if it has one."""
    place = external_place(tensor)
    if place is None:
        return np.asarray(numpy_helper.to_array(tensor))
    path, offset = place
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=tuple(tensor.dims))


def from_array(array: NDArray[Any], name: str) -> TensorProto:
    """A weight, in a file if it is large and there is a folder for it."""
    array = np.asarray(array, order="C")
    folder = _folder.get()
    if folder is None or array.nbytes < FILE_BYTES:
        return numpy_helper.from_array(array, name)
    path = folder / f"{hashlib.sha256(array.data).hexdigest()}.weights"
    if not path.exists():
        array.tofile(path)
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    place_in_file(tensor, path, 0, array.nbytes)
    return tensor


def external_place(tensor: TensorProto) -> tuple[Path, int] | None:
    """File and offset of a weight that lies in one."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Path(entries.get("location", "")), int(entries.get("offset", 0))


def num_bytes(tensor: TensorProto) -> int:
    """Of a weight's elements."""
    return int(np.prod(tensor.dims, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def load_graph(path: Path) -> ModelProto:
    """Read an ONNX file, without what is in its external data: the weights name where that lies."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if (place := external_place(tensor)) is not None:
            place_in_file(tensor, (path.parent / place[0]).resolve(), place[1], num_bytes(tensor))
            if num_bytes(tensor) < FILE_BYTES:
                array = np.array(to_array(tensor)).reshape(tuple(tensor.dims))
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def open_graph(model: ModelProto, *, threads: int = 1, pinned_batch: int | None = None) -> CpuSession:
    """A session of a graph, which maps the weights that lie in files."""
    relative, folder = with_relative_places(model)
    return CpuSession(
        relative.SerializeToString(deterministic=True), threads=threads, pinned_batch=pinned_batch, weights=folder
    )


def with_relative_places(model: ModelProto) -> tuple[ModelProto, Path | None]:
    """The graph as it would be written into the folder of its weights, and that folder: None where it has no files."""
    folders = {place[0].parent for tensor in model.graph.initializer if (place := external_place(tensor)) is not None}
    if not folders:
        return model, None
    (folder,) = folders
    relative = ModelProto()
    relative.CopyFrom(model)
    for tensor in relative.graph.initializer:
        if (place := external_place(tensor)) is not None:
            place_in_file(tensor, Path(place[0].name), place[1], num_bytes(tensor))
    return relative, folder


def place_in_file(tensor: TensorProto, path: Path, offset: int, length: int) -> None:
    """Make a weight one whose elements lie in a file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", path), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
