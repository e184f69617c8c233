"""The gate of the fp16 file: its bounds, each of its figures, and that no part of it is left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.adapters.checkpoint import load_checkpoint
from export.graph.build import build_graphs, export_networks
from export.graph.writer import new_model
from export.precision.mixed import add_fp16
from export.proof import half_gate
from export.proof.cases import Cases, make_half_cases
from export.proof.half import NodeByNode
from export.proof.half_gate import Expected, HalfGateError, Verdict, judge_images, judge_posterior
from export.proof.prove import expect_half, prove, prove_fp16
from ganvas_core.names import FP16_FILE, FP32_FILE
from tests.unit.export.conftest import OPTIONS, Exported

NUM = 8
SIDE = 32


def test_bounds_are_those_that_the_documentation_promises() -> None:
    assert (half_gate.MAX_LEVELS, half_gate.MAX_MEAN_LEVELS, half_gate.MIN_PSNR_DB) == (2, 0.05, 65.0)
    assert (half_gate.PEAK_LIMIT, half_gate.POSTERIOR_ATOL) == (65504 / 4, 0.05)


def half_graph(factor: float = 1.0) -> ModelProto:
    """Two products in half that undo each other."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Mul", ["half", "factor"], ["scaled"], name="scale"),
            helper.make_node("Div", ["scaled", "factor"], ["back"], name="unscale"),
            helper.make_node("Cast", ["back"], ["image_float"], to=TensorProto.FLOAT),
        ],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("image_float", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        initializer=[numpy_helper.from_array(np.array(factor, np.float16), "factor")],
    )
    return new_model(graph)


def judged(offset: NDArray[np.float32], *, factor: float = 1.0) -> Verdict:
    """The verdict on images that are off by so many levels, [NUM, SIDE * SIDE]."""
    levels = np.random.default_rng(0).integers(60, 120, (NUM, 1, SIDE, SIDE)).astype(np.float32)
    cases = Cases(seeds=np.arange(NUM, dtype=np.uint64), truncation=np.ones(NUM, np.float32), labels=None)
    made = levels + offset.reshape(levels.shape)
    expected = Expected(cases=cases, inputs={"x": made / 256}, outputs=(levels / 256,), image_range=(0.0, 255 / 256))
    return judge_images(NodeByNode(half_graph(factor)), expected, [1, 4])


def off(*, rows: int, pixels: int, levels: int) -> NDArray[np.float32]:
    offset = np.zeros((NUM, SIDE * SIDE), np.float32)
    offset[:rows, :pixels] = levels
    return offset


def test_equal_images_pass() -> None:
    verdict = judged(off(rows=0, pixels=0, levels=0))
    assert verdict.failures == ()
    assert verdict.pixels is not None
    assert (verdict.pixels.max_levels, verdict.pixels.worst_psnr_db) == (0, None)
    assert verdict.pixels.num_images == NUM + 4  # all in batches of 4, and four alone


@pytest.mark.parametrize(
    ("rows", "pixels", "levels", "failure"),
    [
        (1, 1, 2, None),
        (1, 1, 3, "max pixel difference 3 > 2 levels at seed 0"),
        (1, 21, 1, None),
        (1, 22, 1, "worst image 64.8 < 65 dB at seed 0"),
        (NUM, 60, 1, "mean pixel difference 0.0586 > 0.05 levels"),
    ],
)
def test_each_bound_is_where_it_is_said_to_be(rows: int, pixels: int, levels: int, failure: str | None) -> None:
    failures = judged(off(rows=rows, pixels=pixels, levels=levels)).failures
    if failure is None:
        assert failures == ()
    else:
        assert any(found.startswith(failure) for found in failures), failures


@pytest.mark.parametrize(
    ("factor", "passes"),
    [(2.0**14, True), (2.0**15, True), (2.0**15 + 2.0**14, False)],  # times images of up to 119/256
)
def test_headroom_is_demanded_of_every_half_value(factor: float, passes: bool) -> None:
    failures = judged(off(rows=0, pixels=0, levels=0), factor=factor).failures
    assert passes == (not any("> 16376, a quarter of half's, in scale" in found for found in failures))


def test_infinite_values_fail_wherever_they_arise() -> None:
    offset = off(rows=0, pixels=0, levels=0)
    offset[3, 7] = 1e9
    verdict = judged(offset)
    assert verdict.activations.num_nonfinite > 0
    assert any("values are infinite or not a number" in found for found in verdict.failures)
    assert verdict.worst_rows[0] == 3


def test_the_cases_have_256_seeds_and_every_corner() -> None:
    cases = make_half_cases(num_seeds=256, num_labels=10, truncation_max=1.5)
    assert len(cases) == 256 + 2 * 10
    assert len(set(cases.seeds.tolist())) == len(cases)
    assert cases.labels is not None
    corners = {(float(t), int(label)) for t, label in zip(cases.truncation, cases.labels, strict=True)}
    assert {(t, label) for t in (0.0, 1.5) for label in range(10)} <= corners
    assert OPTIONS.__class__(name="any").num_half_seeds == 256


def test_half_cases_have_every_label_at_both_ends_of_truncation() -> None:
    cases = make_half_cases(num_seeds=32, num_labels=3, truncation_max=1.5)
    assert cases.labels is not None
    corners = zip(cases.truncation[-6:].tolist(), cases.labels[-6:].tolist(), strict=True)
    assert set(corners) == {(truncation, label) for truncation in (0.0, 1.5) for label in range(3)}


def test_an_fp16_encoder_is_part_of_the_proof(vae: Exported) -> None:
    source = load_checkpoint(vae.checkpoint)
    graphs = build_graphs(source, export_networks(source))
    proof = prove(source, graphs, OPTIONS)
    found = add_fp16(source, graphs, proof, OPTIONS, report=lambda step: None)
    assert found.no_fp16 is None
    assert FP16_FILE in found.proof.posterior_parity
    assert found.proof.half["encode"].activations.peak > 0
    cases = make_half_cases(num_seeds=OPTIONS.num_half_seeds, num_labels=3, truncation_max=1.5)
    expected = expect_half(source, cases, proof.images[FP32_FILE])
    assert expected.posterior is not None
    shifted = tuple(output + 0.2 for output in expected.posterior.outputs)
    wrong = dataclasses.replace(expected, posterior=dataclasses.replace(expected.posterior, outputs=shifted))
    with pytest.raises(HalfGateError, match=r"fp16 encode failed in half arithmetic: max difference 0\.\d+ > 0.05 at"):
        prove_fp16(source, found.graphs, proof, wrong, OPTIONS)


def test_posterior_is_relative_beyond_1_and_absolute_below() -> None:
    cases = Cases(seeds=np.arange(NUM, dtype=np.uint64), truncation=np.ones(NUM, np.float32), labels=None)
    x = np.full((NUM, 1, SIDE, SIDE), 10, np.float32)
    graph = NodeByNode(half_graph())
    for wanted, passes in ((10.4, True), (10.6, False)):
        expected = Expected(cases=cases, inputs={"x": x}, outputs=(np.full_like(x, wanted),))
        assert (judge_posterior(graph, expected, [4]).failures == ()) == passes
