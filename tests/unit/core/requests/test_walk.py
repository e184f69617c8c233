"""The walk: exact at its seeds, smooth in between, independent of batch boundaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ganvas_core.noise import latents, truncated_latents
from ganvas_core.prior import Mixture
from ganvas_core.requests.walk import slerp, walk_latents

SEEDS = st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=5).map(lambda seeds: np.array(seeds, np.uint64))


@given(
    seeds=SEEDS, steps=st.integers(1, 9), latent_shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
)
def test_frame_at_a_seed_has_its_latent_bit_for_bit(
    seeds: NDArray[np.uint64], steps: int, latent_shape: tuple[int, ...]
) -> None:
    frames = walk_latents(seeds, steps, 0, (len(seeds) - 1) * steps + 1, latent_shape)
    assert frames.dtype == np.float32
    assert frames[::steps].tobytes() == latents(seeds, latent_shape).tobytes()


def test_walk_through_a_mixture_has_at_its_seeds_what_the_sampler_decodes() -> None:
    prior = Mixture.of([0.2, 0.5, 0.3], 3 * np.random.default_rng(0).normal(size=(3, 4)), np.stack([np.eye(4)] * 3))
    seeds = np.arange(7, dtype=np.uint64)
    frames = walk_latents(seeds, 5, 0, 31, (4,), truncation=0.7, prior=prior)
    assert frames[::5].tobytes() == truncated_latents(seeds, 0.7, 4, prior).tobytes()
    assert np.isfinite(frames).all()


def test_walk_draws_each_frame_from_the_components_of_its_label() -> None:
    prior = Mixture.of([0.5, 0.5], np.array([[-9.0, 0.0], [9.0, 0.0]]), np.stack([np.eye(2)] * 2), [[1, 0], [0, 1]])
    seeds, labels = np.arange(3, dtype=np.uint64), np.repeat([0, 1], 6)
    frames = walk_latents(seeds, 4, 0, 12, (2,), prior=prior, labels=labels)
    assert ((frames[:, 0] > 0) == labels).all()
    assert frames[::4].tobytes() == truncated_latents(seeds, 1.0, 2, prior, labels[::4]).tobytes()


@pytest.mark.parametrize("truncation", [0.0, 0.7])
def test_walk_is_truncated_as_a_whole_without_a_prior(truncation: float) -> None:
    seeds = np.array([3, 4], np.uint64)
    whole = walk_latents(seeds, 5, 0, 10, (6,))
    scaled = walk_latents(seeds, 5, 0, 10, (6,), truncation=truncation)
    assert scaled.tobytes() == (whole * np.float32(truncation)).tobytes()


@given(seeds=SEEDS, steps=st.integers(1, 9), cut=st.integers(0, 45))
def test_walk_is_the_same_in_one_piece_and_in_two(seeds: NDArray[np.uint64], steps: int, cut: int) -> None:
    count = len(seeds) * steps
    cut = min(cut, count)
    whole = walk_latents(seeds, steps, 0, count, (12,))
    pieces = [walk_latents(seeds, steps, 0, cut, (12,)), walk_latents(seeds, steps, cut, count, (12,))]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_loop_leads_back_to_the_first_seed() -> None:
    seeds, steps = np.array([5, 6], np.uint64), 64
    frames = walk_latents(seeds, steps, 0, 2 * steps, (32,))
    first, last_leg = frames[0], frames[steps:]
    distances = np.linalg.norm(last_leg - first, axis=1)
    assert (np.diff(distances) < 0).all()
    assert distances[-1] < 0.1 * distances[0]


@given(t=st.floats(0, 1))
def test_slerp_keeps_the_length_between_equal_lengths(t: float) -> None:
    a, b = latents([1, 2], 64).astype(np.float64)
    a, b = (8 * v / np.linalg.norm(v) for v in (a, b))
    point = slerp(a[None].astype(np.float32), b[None].astype(np.float32), np.array([t]))
    assert np.linalg.norm(point) == pytest.approx(8, rel=1e-5)


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0, 3.0])
def test_slerp_stays_finite_when_there_is_no_arc(factor: float) -> None:
    a = latents([7], 10)
    points = slerp(np.repeat(a, 5, axis=0), np.repeat(a * np.float32(factor), 5, axis=0), np.linspace(0, 1, 5))
    assert np.isfinite(points).all()
    np.testing.assert_allclose(points[-1], a[0] * factor, rtol=1e-6, atol=1e-6)


def test_slerp_moves_by_equal_angles() -> None:
    a, b = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    t = np.linspace(0, 1, 10)
    points = slerp(np.repeat(a, 10, axis=0), np.repeat(b, 10, axis=0), t)
    np.testing.assert_allclose(np.arctan2(points[:, 1], points[:, 0]), t * np.pi / 2, atol=1e-6)
