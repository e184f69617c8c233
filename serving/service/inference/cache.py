"""Images that were made before, kept by choice (`--cache-mib`).

An image is a pure function of the model's digest and its row of inputs, and that is its key: a version that takes the
place of another has another digest, so nothing here is ever stale. All of it is forgotten when a version comes, goes or
is loaded anew: the process before may have been taken out for its images. Those asked for longest ago go first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from ganvas_core.interface import Arrays
from serving.service.inference.catalog import ServedModel

__all__ = ["ImageCache"]

ENTRY_BYTES = 300
"""About what an image costs beside its pixels."""

HASHED_BYTES = 64
"""Rows longer than this, latents, are known by their hash."""

Key = tuple[str, str, bytes]


class ImageCache:
    """Raw images by digest, Triton model and row of inputs.

    Args:
        limit_bytes: of all that is kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.bytes = 0
        self._limit_bytes = limit_bytes
        self._images: OrderedDict[Key, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._images)

    def clear(self) -> None:
        self._images.clear()
        self.bytes = 0

    def get(self, model: ServedModel, triton_model: str, inputs: Arrays) -> bytes | None:
        """The images of all rows, one after another; None if one of them is not here.

        Args:
            inputs: name to [N, ...] array.
        """
        keys = _keys(model, triton_model, inputs)
        if any(key not in self._images for key in keys):
            return None
        for key in keys:
            self._images.move_to_end(key)
        return b"".join(self._images[key] for key in keys)

    def put(self, model: ServedModel, triton_model: str, inputs: Arrays, raw: bytes) -> None:
        """Keep the images of these rows.

        Args:
            raw: [N,H,W,C] uint8
        """
        keys = _keys(model, triton_model, inputs)
        size = len(raw) // len(keys)
        if size + ENTRY_BYTES > self._limit_bytes:
            return
        for index, key in enumerate(keys):
            if key in self._images:
                continue
            self._images[key] = raw[index * size : (index + 1) * size]
            self.bytes += size + ENTRY_BYTES
        while self.bytes > self._limit_bytes:
            _, oldest = self._images.popitem(last=False)
            self.bytes -= len(oldest) + ENTRY_BYTES


def _keys(model: ServedModel, triton_model: str, inputs: Arrays) -> list[Key]:
    columns = [inputs[name] for name in sorted(inputs)]
    rows = (b"".join(column[index].tobytes() for column in columns) for index in range(len(columns[0])))
    return [(model.entry.digest, triton_model, _short(row)) for row in rows]


def _short(row: bytes) -> bytes:
    return row if len(row) <= HASHED_BYTES else hashlib.sha256(row).digest()
