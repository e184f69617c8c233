"""Between a network's float images and the uint8 images of the contract: postprocess after sampler and decode,
preprocess before encode. Both stay in float32 in every file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from export.graph.writer import GraphWriter
from ganvas_core.interface import Tensor

__all__ = ["postprocess_graph", "preprocess_graph", "to_pixels"]

Range = tuple[float, float]
_LEVELS = 255.0


def postprocess_graph(image: tuple[int, int, int], image_range: Range) -> ModelProto:
    """The model (image float32 [N, C, H, W] in image_range) → image uint8 [N, H, W, C].

    Clamp, scale, round half to even, cast, NHWC: a quarter of the bytes of float32.
    """
    height, width, channels = image
    low, high = (np.array(bound, np.float32) for bound in image_range)
    writer = GraphWriter("postprocess")
    bottom, top = writer.constant("low", low), writer.constant("high", high)
    x = writer.op("Sub", writer.op("Clip", "image_float", bottom, top), bottom)
    x = writer.op("Round", writer.op("Mul", x, writer.constant("scale", _scale(image_range))))
    writer.op("Transpose", writer.op("Cast", x, to=TensorProto.UINT8), output="image", perm=[0, 2, 3, 1])
    return writer.model(
        inputs=[Tensor(name="image_float", datatype="FP32", dims=(channels, height, width))],
        outputs=[Tensor(name="image", datatype="UINT8", dims=(height, width, channels))],
    )


def preprocess_graph(image: tuple[int, int, int], image_range: Range) -> ModelProto:
    """The model (image uint8 [N, H, W, C]) → image float32 [N, C, H, W] in image_range."""
    height, width, channels = image
    low = np.array(image_range[0], np.float32)
    writer = GraphWriter("preprocess")
    x = writer.op("Cast", writer.op("Transpose", "image", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    x = writer.op("Div", x, writer.constant("scale", _scale(image_range)))
    writer.op("Add", x, writer.constant("low", low), output="image_float")
    return writer.model(
        inputs=[Tensor(name="image", datatype="UINT8", dims=(height, width, channels))],
        outputs=[Tensor(name="image_float", datatype="FP32", dims=(channels, height, width))],
    )


def to_pixels(images: NDArray[np.float32], image_range: Range) -> NDArray[np.uint8]:
    """postprocess_graph in NumPy: [N, C, H, W] float32 → [N, H, W, C] uint8."""
    low, high = (np.float32(bound) for bound in image_range)
    levels = np.rint((np.clip(images, low, high) - low) * _scale(image_range))
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(0, 2, 3, 1))


def _scale(image_range: Range) -> NDArray[np.float32]:
    """Levels per unit of the network's range."""
    low, high = image_range
    return np.array(_LEVELS / (high - low), np.float32)
