"""The checks themselves, on graphs with one fault each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.errors import BatchDependenceError, GateError
from export.graph.writer import new_model
from export.proof.cases import Cases
from export.proof.parity import (
    Reference,
    check_batch_invariance,
    check_equal,
    check_floats,
    check_pixels,
    check_posteriors,
)
from ganvas_core.session import CpuSession

NUM = 5
ROWS = np.arange(NUM, dtype=np.float32)[:, None]
CASES = Cases(seeds=np.arange(NUM, dtype=np.uint64), truncation=np.ones(NUM, np.float32), labels=None)


def session(*nodes: NodeProto) -> CpuSession:
    """x [batch, 1] → y [batch, 1] of some nodes."""
    constants = {"axis": np.array([0], np.int64), "zero": np.float32(0), "one": np.float32(1)}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        initializer=[numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
        + [numpy_helper.from_array(np.array(0, np.int64), "first_axis")]
        + [numpy_helper.from_array(np.array(number, np.float32), name) for number, name in ((2, "two"), (3, "three"))],
    )
    return CpuSession(new_model(graph).SerializeToString())


ONES = [helper.make_node("Sub", ["x", "x"], ["nothing"]), helper.make_node("Add", ["nothing", "one"], ["ones"])]
PLACE = helper.make_node("CumSum", ["ones", "first_axis"], ["place"])
SIZE = helper.make_node("ReduceSum", ["ones", "axis"], ["size"], keepdims=1)


def wrong_where(*conditions: NodeProto, found: str) -> CpuSession:
    """y is x, and one more where `found` (float, 0 or 1) says so."""
    return session(*ONES, *conditions, helper.make_node("Add", ["x", found], ["y"]))


def equal(value: str, number: str, name: str) -> list[NodeProto]:
    return [
        helper.make_node("Equal", [value, number], [f"{name}/bool"]),
        helper.make_node("Cast", [f"{name}/bool"], [name], to=TensorProto.FLOAT),
    ]


def row_3_in_slot_2() -> CpuSession:
    """Only with row 3 in slot 2, which no batch that begins with row 0 has."""
    both = helper.make_node("Mul", ["row", "slot"], ["wrong"])
    return wrong_where(PLACE, *equal("place", "three", "slot"), *equal("x", "three", "row"), both, found="wrong")


def test_invariance_is_looked_at_in_every_slot() -> None:
    with pytest.raises(BatchDependenceError, match=r"y depends on its batch: seed 3, .* in slot 2 of a batch of 3"):
        check_batch_invariance(row_3_in_slot_2(), {"x": ROWS}, [ROWS], CASES, (1, 2, 3), what="y")


@pytest.mark.parametrize("check", [check_batch_invariance, check_equal])
def test_invariance_is_looked_at_in_every_batch_size(check: Callable[..., None]) -> None:
    graph = wrong_where(SIZE, *equal("size", "two", "wrong"), found="wrong")
    with pytest.raises(BatchDependenceError, match="seed 0"):
        check(graph, {"x": ROWS}, [ROWS], CASES, (1, 2, 3), what="y")


def test_floats_that_are_not_numbers_fail() -> None:
    graph = session(helper.make_node("Sqrt", ["x"], ["y"]))
    reference = Reference(outputs=[ROWS], atol=1e9, precision="float64")
    with pytest.raises(GateError, match="max difference nan"):
        check_floats(graph, {"x": -ROWS - 1}, reference, CASES, (1,))


def test_floats_are_compared_in_every_batch_size_and_pass_at_the_bound_alone() -> None:
    graph = wrong_where(SIZE, *equal("size", "two", "wrong"), found="wrong")
    beyond = Reference(outputs=[ROWS], atol=0.99, precision="float64")
    with pytest.raises(GateError, match=r"max difference 1 > 0\.99 from PyTorch in float64 at seed 0, .* batch 2"):
        check_floats(graph, {"x": ROWS}, beyond, CASES, (1, 2, 3))
    within = Reference(outputs=[ROWS], atol=1.0, precision="float64")
    assert check_floats(graph, {"x": ROWS}, within, CASES, (1, 2, 3)).max_abs == 1.0


def test_one_pixel_is_enough() -> None:
    wanted = np.full((NUM, 4, 4, 3), 100, np.uint8)
    made = wanted.copy()
    made[4, 1, 2, 0] = 98
    assert check_pixels(made, wanted, CASES, precision="fp32", max_levels=2).max_levels == 2
    with pytest.raises(GateError, match="max pixel difference 2 > 1 levels at seed 4"):
        check_pixels(made, wanted, CASES, precision="fp32", max_levels=1)


@pytest.mark.parametrize("value", [1.2, float("nan")])
def test_posterior_of_an_fp16_file_that_is_far_from_fp32s_is_rejected(value: float) -> None:
    expected = np.full((NUM, 2, 3), 100, np.float32)
    made = expected + 4  # relative where beyond 1
    check_posteriors(made, expected, CASES, atol=0.05)
    expected[2, 1, 0], made[2, 1, 0] = 0.0, value
    with pytest.raises(GateError, match=r"fp16 encode parity failed: .* > 0\.05 at seed 2"):
        check_posteriors(made, expected, CASES, atol=0.05)
