"""The noise graph on ONNX Runtime against the NumPy reference, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.graph.compose import NOISE_OPS
from export.graph.noise import noise_graph
from ganvas_core import noise
from ganvas_core.prior import Mixture

LATENT_DIM = 37
EDGES = [0, 1, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]

Run = Callable[[list[int]], NDArray[np.float32]]


@pytest.fixture(scope="module")
def run() -> Run:
    """seeds → what the graph makes, [N, LATENT_DIM]."""
    session = onnxruntime.InferenceSession(
        noise_graph((LATENT_DIM,)).SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def call(seeds: list[int]) -> NDArray[np.float32]:
        latent: NDArray[np.float32] = session.run(None, {"seed": np.array(seeds, np.uint64)[:, None]})[0]
        return latent

    return call


def same_bits(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.dtype == other.dtype == np.float32 and one.tobytes() == other.tobytes()


@given(seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
@example(seeds=EDGES)
@settings(deadline=None)
def test_noise_graph_gives_the_bits_of_the_reference(run: Run, seeds: list[int]) -> None:
    assert same_bits(run(seeds), noise.latents(seeds, LATENT_DIM))


def test_noise_graph_agrees_on_ten_thousand_seeds(run: Run) -> None:
    seeds = np.random.default_rng(7).integers(0, 2**64, 10_000, dtype=np.uint64).tolist()
    assert same_bits(run(seeds), noise.latents(seeds, LATENT_DIM))


@pytest.mark.parametrize("latent_shape", [(1,), (2,), (512,), (4, 3, 2)])
def test_noise_graph_has_only_operators_with_cuda_kernels(latent_shape: tuple[int, ...]) -> None:
    model = noise_graph(latent_shape)
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= NOISE_OPS
    assert len(model.graph.node) == (29 if len(latent_shape) == 1 else 30)


@pytest.mark.parametrize("num_labels", [0, 3])
@pytest.mark.parametrize(("components", "dim"), [(1, 1), (2, 3), (10, 16), (5, 33)])
def test_mixture_graph_gives_the_bits_of_the_reference(components: int, dim: int, num_labels: int) -> None:
    rng = np.random.default_rng(dim)
    factors = np.tril(rng.normal(size=(components, dim, dim)))
    shares, *by_label = rng.dirichlet(np.ones(components), 1 + num_labels).tolist()
    prior = Mixture.of(shares, rng.normal(size=(components, dim)), factors, by_label)
    model = noise_graph((dim,), prior)
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= NOISE_OPS
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seeds = np.concatenate([np.array(EDGES, np.uint64), rng.integers(0, 2**64, 2000, dtype=np.uint64)])
    psi = rng.uniform(0, 1.5, len(seeds)).astype(np.float32)
    labels = rng.integers(0, max(1, num_labels), len(seeds))
    for rows in (slice(0, 1), slice(0, 3), slice(None)):
        feeds = {"seed": seeds[rows, None], "truncation": psi[rows, None]}
        feeds |= {"label": labels[rows, None]} if num_labels else {}
        (latent,) = session.run(None, feeds)
        assert same_bits(latent, noise.truncated_latents(seeds[rows], psi[rows], dim, prior, labels[rows]))


def test_noise_of_a_latent_with_more_dimensions_is_the_flat_one_reshaped() -> None:
    session = onnxruntime.InferenceSession(
        noise_graph((4, 3, 2)).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (latent,) = session.run(None, {"seed": np.array([[7], [2**64 - 1]], np.uint64)})
    assert same_bits(latent, noise.latents([7, 2**64 - 1], (4, 3, 2)))
    assert same_bits(latent.reshape(2, 24), noise.latents([7, 2**64 - 1], 24))
