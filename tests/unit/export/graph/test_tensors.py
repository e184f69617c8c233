"""Weights that lie in files: what a graph of them computes, and what it holds in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from export.graph.tensors import (
    FILE_BYTES,
    external_place,
    from_array,
    load_graph,
    open_graph,
    to_array,
    weights_folder,
    weights_in_files,
)
from export.graph.writer import BATCH, new_model

LARGE = np.arange(256 * 128, dtype=np.float32).reshape(256, 128)
FEEDS = {"x": np.ones((3, 256), np.float32)}


def product(weight: TensorProto) -> ModelProto:
    """x [batch, 256] → y [batch, 128]"""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, size]) for name, size in (("x", 256), ("y", 128))
    )
    return new_model(helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight]))


def test_large_weights_lie_in_one_file_for_each_content() -> None:
    with weights_in_files() as folder:
        assert folder.name.startswith("ganvas-weights-")
        first, second = from_array(LARGE, "w"), from_array(LARGE.copy(), "v")
        assert external_place(first) == external_place(second)
        assert not first.raw_data
        np.testing.assert_array_equal(to_array(first), LARGE)
        assert [path.stat().st_size for path in folder.iterdir()] == [LARGE.nbytes]
        assert from_array(LARGE[:1], "small").raw_data
    assert not folder.exists()
    assert weights_folder() is None


def test_without_a_folder_weights_lie_in_the_graph() -> None:
    assert LARGE.nbytes >= FILE_BYTES
    assert from_array(LARGE, "w").raw_data == LARGE.tobytes()


def test_a_graph_computes_the_same_with_its_weights_in_files() -> None:
    (wanted,) = open_graph(product(from_array(LARGE, "w"))).run(FEEDS)
    with weights_in_files():
        (made,) = open_graph(product(from_array(LARGE, "w"))).run(FEEDS)
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_a_file_with_external_data_is_read_without_it(tmp_path: Path, dtype: type) -> None:
    graph = product(from_array(LARGE.astype(dtype), "w"))
    onnx.save_model(graph, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    (tensor,) = load_graph(tmp_path / "m.onnx").graph.initializer
    assert external_place(tensor) == ((tmp_path / "m.data").resolve(), 0)
    np.testing.assert_array_equal(to_array(tensor), LARGE.astype(dtype))
