"""Floats to uint8 images and back."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from export.graph.images import postprocess_graph, preprocess_graph, to_pixels

IMAGE = (2, 3, 1)
RANGES = [(-1.0, 1.0), (0.0, 1.0)]


def session(model: ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("image_range", RANGES)
@given(values=st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6))
@settings(deadline=None, max_examples=50)
def test_postprocess_graph_agrees_with_numpy(image_range: tuple[float, float], values: list[float]) -> None:
    floats = np.array(values, np.float32).reshape(1, 1, 2, 3)
    (image,) = session(postprocess_graph(IMAGE, image_range)).run(None, {"image_float": floats})
    assert image.dtype == np.uint8
    assert image.tolist() == to_pixels(floats, image_range).tolist()


@pytest.mark.parametrize("image_range", RANGES)
def test_postprocess_covers_all_levels_and_clamps(image_range: tuple[float, float]) -> None:
    low, high = image_range
    image = np.array([low - 9, low, (low + high) / 2, high, high + 9, low], np.float32).reshape(1, 1, 2, 3)
    assert to_pixels(image, image_range).ravel().tolist() == [0, 0, 128, 255, 255, 0]


@pytest.mark.parametrize("image_range", RANGES)
def test_postprocess_undoes_preprocess_for_every_level(image_range: tuple[float, float]) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    (floats,) = session(preprocess_graph((16, 16, 1), image_range)).run(None, {"image": levels})
    assert floats.min() == image_range[0]
    assert floats.max() == image_range[1]
    (image,) = session(postprocess_graph((16, 16, 1), image_range)).run(None, {"image_float": floats})
    assert image.tobytes() == levels.tobytes()


def test_postprocess_and_preprocess_transpose_between_nchw_and_nhwc() -> None:
    image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(1, 2, 3, 4)
    (floats,) = session(preprocess_graph((2, 3, 4), (0.0, 1.0))).run(None, {"image": image})
    assert floats.shape == (1, 4, 2, 3)
    np.testing.assert_array_equal(floats[0, 3, 1, 2], np.float32(image[0, 1, 2, 3]) / np.float32(255))
