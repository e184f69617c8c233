"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ganvas_core.session import CpuSession, SessionError


def doubling() -> bytes:
    """x → 2x and x + 1."""
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "twice", "more")
    }
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["twice"]), helper.make_node("Add", ["x", "one"], ["more"])],
        "doubling",
        [values["x"]],
        [values["twice"], values["more"]],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_run_gives_every_output_in_order_and_ignores_other_feeds() -> None:
    x = np.array([[1, 2]], np.float32)
    twice, more = CpuSession(doubling()).run({"x": x, "unknown": x})
    assert (twice.tolist(), more.tolist()) == ([[2, 4]], [[2, 3]])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 9])
def test_run_in_batches_gives_the_rows_of_one_run(batch_size: int) -> None:
    session, x = CpuSession(doubling()), np.arange(10, dtype=np.float32).reshape(5, 2)
    whole = session.run({"x": x})
    for expected, found in zip(whole, session.run_in_batches({"x": x}, batch_size), strict=True):
        assert np.array_equal(expected, found)


def test_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(SessionError, match=r"ONNX Runtime cannot load .*model\.onnx: "):
        CpuSession(path)
    with pytest.raises(SessionError, match="ONNX Runtime cannot load the graph: "):
        CpuSession(b"not a graph")


def subtracting() -> bytes:
    """b, a → a - b."""
    a, b, difference = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in ("a", "b", "difference")
    )
    graph = helper.make_graph(
        [helper.make_node("Sub", ["a", "b"], ["difference"])], "subtracting", [b, a], [difference]
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_graph_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(doubling())
    assert CpuSession(path).run({"x": np.ones((1, 2), np.float32)})[0].tolist() == [[2, 2]]


def test_input_names_are_in_the_graph_s_order() -> None:
    assert CpuSession(subtracting()).input_names == ["b", "a"]


def test_run_in_batches_cuts_every_input_alike() -> None:
    a, b = np.arange(5, dtype=np.float32), np.arange(5, dtype=np.float32) ** 2
    (difference,) = CpuSession(subtracting()).run_in_batches({"a": a, "b": b}, 2)
    assert difference.tolist() == (a - b).tolist()


def test_run_in_batches_ignores_other_feeds_of_any_length() -> None:
    x = np.ones((3, 2), np.float32)
    twice, _ = CpuSession(doubling()).run_in_batches({"unknown": np.zeros(1), "x": x}, 2)
    assert twice.shape == (3, 2)


def test_input_without_a_feed_is_named() -> None:
    with pytest.raises(KeyError, match="x"):
        CpuSession(doubling()).run({})


def test_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"ONNX Runtime cannot load .*missing\.onnx: "):
        CpuSession(tmp_path / "missing.onnx")


@pytest.mark.parametrize("threads", [1, 2])
def test_session_has_as_many_threads_as_asked_on_the_cpu_alone(threads: int) -> None:
    session = CpuSession(doubling(), threads=threads).session
    assert session.get_session_options().intra_op_num_threads == threads
    assert session.get_session_options().inter_op_num_threads == 1
    assert session.get_providers() == ["CPUExecutionProvider"]
