"""The noise: its published vectors, its statistics, and what it rejects. The graph's half is in tests/unit/export."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from ganvas_core import noise

RNG_DOC = Path(__file__).parents[3] / "docs" / "rng.md"
VECTOR_ROW = re.compile(r"^\| `(0x[0-9a-f]{16})` \| (\d+) \| `0x([0-9a-f]{8})` \| `0x([0-9a-f]{8})` \| (\S+) \|$", re.M)
KEY_ROW = re.compile(r"^\| (\d+) \| `0x([0-9a-f]{16})` \|$", re.M)
LATENT_DIM = 64
MASK = 2**64 - 1


def scalar_squares(counter: int, key: int) -> tuple[int, int]:
    """(squares32, squares64) in plain Python integers, written from docs/rng.md rather than from the NumPy code."""

    def rotate(x: int) -> int:
        return (x >> 32 | x << 32) & MASK

    y = x = counter * key & MASK
    z = (y + key) & MASK
    for addend in (y, z, y):
        x = rotate((x * x + addend) & MASK)
    t = (x * x + z) & MASK
    x = rotate(t)
    return t >> 32, t ^ ((x * x + y & MASK) >> 32)


def test_noise_gives_the_vectors_of_the_document() -> None:
    rows = VECTOR_ROW.findall(RNG_DOC.read_text())
    assert len(rows) >= 20
    for seed, dimension, bits, latent, decimal in rows:
        d = int(dimension)
        assert noise.bits([int(seed, 16)], d + 1)[0, d] == int(bits, 16)
        value = noise.latents([int(seed, 16)], d + 1)[0, d]
        assert value.view(np.uint32) == int(latent, 16)
        assert value == np.float32(decimal)


def test_noise_keys_are_those_of_the_document() -> None:
    rows = KEY_ROW.findall(RNG_DOC.read_text())
    assert len(rows) >= 4
    for dimension, key in rows:
        assert noise.dimension_keys(int(dimension) + 1)[-1] == int(key, 16)


def test_noise_table_has_the_hash_of_the_document_and_is_antisymmetric() -> None:
    assert noise.QUANTILES_SHA256 in RNG_DOC.read_text()
    table = noise.quantiles()
    assert np.array_equal(table, -table[::-1])
    assert not table.flags.writeable


@given(st.integers(0, MASK), st.integers(0, MASK))
def test_squares_equal_plain_integer_arithmetic(counter: int, key: int) -> None:
    counters, keys = np.array([counter], np.uint64), np.array([key], np.uint64)
    assert (int(noise.squares32(counters, keys)[0]), int(noise.squares64(counters, keys)[0])) == scalar_squares(
        counter, key
    )


@given(st.lists(st.integers(0, MASK), min_size=1, max_size=20), st.integers(1, 40))
def test_latents_do_not_depend_on_company_or_on_num_dims(seeds: list[int], num_dims: int) -> None:
    together = noise.latents(seeds, LATENT_DIM)
    for row, seed in zip(together, seeds, strict=True):
        assert np.array_equal(noise.latents([seed], num_dims)[0], row[:num_dims])


@pytest.mark.parametrize("seed", [-1, 2**64, 2**70])
def test_latents_reject_a_seed_outside_64_bits(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed must be within \[0, 2\^64\); got {seed}"):
        noise.latents([seed], 4)


# Statistics. Each statistic is a z-score over many; the bound is where the largest of that many standard normals
# is exceeded once in about 10,000 draws, and the noise is fixed, so a pass stays a pass.


def largest_expected(num_scores: int) -> float:
    return float(stats.norm.isf(1e-4 / 2 / num_scores))


SEED_SETS: dict[str, NDArray[np.uint64]] = {
    "consecutive from 0": np.arange(100_000, dtype=np.uint64),
    "consecutive up to 2^64": np.arange(100_000, dtype=np.uint64) + np.uint64(2**64 - 100_000),
    "multiples of 2^32": np.arange(100_000, dtype=np.uint64) << np.uint64(32),
    "random": np.random.default_rng(1).integers(0, 2**64, 100_000, dtype=np.uint64),
}


@pytest.mark.parametrize("name", SEED_SETS)
def test_latents_have_normal_moments(name: str) -> None:
    z = noise.latents(SEED_SETS[name], LATENT_DIM).astype(np.float64)
    # Standard error of each moment of a standard normal, times sqrt(N): var of z, z^2, z^3, z^4.
    for power, (expected, deviation) in {1: (0, 1), 2: (1, 2**0.5), 3: (0, 15**0.5), 4: (3, 96**0.5)}.items():
        scores = ((z**power).mean(axis=0) - expected) / deviation * len(z) ** 0.5
        assert np.abs(scores).max() < largest_expected(LATENT_DIM), f"moment {power}"


@pytest.mark.parametrize("name", SEED_SETS)
def test_latents_pass_kolmogorov_smirnov(name: str) -> None:
    z = noise.latents(SEED_SETS[name], LATENT_DIM)
    p_values = np.array([stats.kstest(z[:, d], "norm").pvalue for d in range(LATENT_DIM)])
    assert p_values.min() > 1e-4 / LATENT_DIM
    assert stats.kstest(p_values, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("name", SEED_SETS)
def test_latents_are_uncorrelated_across_dimensions(name: str) -> None:
    z = noise.latents(SEED_SETS[name], LATENT_DIM)
    for values in (z, np.abs(z)):
        correlation = np.corrcoef(values.T) * len(z) ** 0.5
        off_diagonal = correlation[np.triu_indices(LATENT_DIM, 1)]
        assert np.abs(off_diagonal).max() < largest_expected(off_diagonal.size)


def correlation_scores(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """z-score of the correlation of every dimension of a with every dimension of b: [D, D]."""
    a, b = (a - a.mean(0)) / a.std(0), (b - b.mean(0)) / b.std(0)
    return np.asarray(a.T.astype(np.float64) @ b / len(a) ** 0.5)


@pytest.mark.parametrize("distance", [1, 2, 3, 64, 65_536, 2**32])
def test_latents_are_uncorrelated_across_neighbouring_seeds(distance: int) -> None:
    seeds = np.arange(50_000, dtype=np.uint64)
    # Even and odd blocks of `distance` are disjoint, so that no latent counts twice.
    first = seeds + seeds // np.uint64(distance) * np.uint64(distance)
    scores = correlation_scores(noise.latents(first, 32), noise.latents(first + np.uint64(distance), 32))
    assert np.abs(scores).max() < largest_expected(scores.size)


@pytest.mark.parametrize("bit", [31, 32, 47, 56, 60, 61, 62, 63])
def test_latents_are_uncorrelated_across_seeds_that_differ_in_one_high_bit(bit: int) -> None:
    seeds = np.arange(50_000, dtype=np.uint64)
    flipped = seeds ^ np.uint64(2**bit)
    scores = correlation_scores(noise.latents(seeds, 32), noise.latents(flipped, 32))
    assert np.abs(scores).max() < largest_expected(scores.size)


@pytest.mark.parametrize("bit", range(64))
def test_bits_avalanche_when_one_bit_of_the_seed_flips(bit: int) -> None:
    seeds = np.random.default_rng(bit).integers(0, 2**63, 5_000, dtype=np.uint64)
    changed = noise.bits(seeds, 16) ^ noise.bits(seeds ^ np.uint64(2**bit), 16)
    flips = np.unpackbits(changed.view(np.uint8), axis=1).mean(axis=0)
    scores = (flips - 0.5) * 2 * len(seeds) ** 0.5
    assert np.abs(scores).max() < largest_expected(scores.size * 64)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
def test_latents_of_any_shape_are_the_same_numbers_reshaped(shape: tuple[int, ...]) -> None:
    flat = noise.latents([3, 2**64 - 1], 6)
    assert noise.latents([3, 2**64 - 1], shape).tobytes() == flat.tobytes()
    assert noise.latents([3, 2**64 - 1], shape).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(), (0,), (4, 0), -1, 0])
def test_latents_of_an_impossible_shape_are_rejected(shape: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="latent_shape must be one or more dimensions of at least 1; got"):
        noise.latents([1], shape)


@pytest.mark.parametrize("shape", [(6,), (3, 2)])
def test_truncation_scales_each_latent_by_its_own_number(shape: tuple[int, ...]) -> None:
    drawn = noise.latents([5, 6, 7], shape)
    psi = np.array([0.0, 0.7, 1.5], np.float32)
    scaled = noise.truncated_latents([5, 6, 7], psi, shape)
    assert scaled.dtype == np.float32
    for row in range(3):
        assert scaled[row].tobytes() == (drawn[row] * psi[row]).tobytes()
    assert noise.truncated_latents([5, 6, 7], 0.7, shape)[2].tobytes() == (drawn[2] * psi[1]).tobytes()


def test_seeds_of_any_integer_type_are_taken_as_numbers() -> None:
    expected = noise.latents([0, 41], 4)
    kinds: tuple[Any, ...] = (np.array([0, 41], np.int32), np.array([[0], [41]], np.uint64), range(0, 82, 41))
    for seeds in kinds:
        assert np.array_equal(noise.latents(seeds, 4), expected)
    with pytest.raises(ValueError, match=r"seed must be within \[0, 2\^64\); got -1"):
        noise.latents([-1], 4)


def test_latents_are_float32_and_bits_uint32() -> None:
    assert noise.latents([1], 2).dtype == np.float32
    assert noise.bits([1], 2).dtype == np.uint32


def test_a_number_of_dimensions_is_the_shape_of_that_one_dimension() -> None:
    assert np.array_equal(noise.latents([1, 2], 4), noise.latents([1, 2], (4,)))


def test_one_dimension_is_enough() -> None:
    assert noise.latents([1], 1).tolist() == noise.latents([1], 2)[:, :1].tolist()


def test_last_dimension_of_a_shape_is_the_fastest() -> None:
    flat, shaped = noise.latents([9], 6)[0], noise.latents([9], (2, 3))[0]
    assert shaped[0].tolist() == flat[:3].tolist()
    assert shaped[1, 0] == flat[3]


def test_no_seeds_give_no_latents() -> None:
    assert noise.truncated_latents([], 0.5, (2, 3)).shape == (0, 2, 3)


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_seed_in_a_list_is_the_same_as_in_an_array(seed: int) -> None:
    assert np.array_equal(noise.latents([seed], 4), noise.latents(np.array([seed], np.uint64), 4))


def test_message_names_the_shape_that_was_asked_for() -> None:
    with pytest.raises(ValueError, match=r"got \(4, 0\)\.$"):
        noise.latents([1], (4, 0))


@pytest.mark.parametrize("num_truncations", [2, 4])
def test_truncations_of_another_number_than_the_seeds_are_rejected(num_truncations: int) -> None:
    with pytest.raises(ValueError, match="broadcast"):
        noise.truncated_latents([1, 2, 3], np.ones(num_truncations, np.float32), 5)


def test_truncation_1_leaves_the_latents_as_they_are() -> None:
    assert noise.truncated_latents([5, 6], 1.0, 4).tobytes() == noise.latents([5, 6], 4).tobytes()


def test_keys_are_odd_and_differ() -> None:
    keys = noise.dimension_keys(1000)
    assert (keys & np.uint64(1) == 1).all()
    assert len(np.unique(keys)) == 1000


def test_table_of_other_arithmetic_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    noise.quantiles.cache_clear()
    monkeypatch.setattr(noise, "QUANTILES_SHA256", "00")
    with pytest.raises(RuntimeError, match=r"the normal quantile table has SHA-256 [0-9a-f]{64}, not 00: see docs/rng"):
        noise.quantiles()
