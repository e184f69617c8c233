"""The gate: proof that a graph matches PyTorch, and gives the same bytes in every batch.

Every check raises GateError, which names the worst case and the figure, or gives back what the certificate records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.errors import BatchDependenceError, GateError
from export.progress import track
from export.proof.cases import Cases
from ganvas_core.certificate import FloatParity, PixelParity
from ganvas_core.interface import sample_inputs
from ganvas_core.session import CpuSession

__all__ = [
    "FLOAT32_ATOL",
    "FLOOR",
    "NUM_OWN_ERRORS",
    "Reference",
    "check_batch_invariance",
    "check_equal",
    "check_floats",
    "check_noise",
    "check_pixels",
    "check_posteriors",
    "difference",
]

NUM_OWN_ERRORS = 4
"""An fp32 graph may be so many times as far from PyTorch in float64 as PyTorch is in float32: depth and scale of the
network set the bound, and what is not rounding is seen."""

FLOOR = 1e-6
"""The smallest bound, of the image range."""

FLOAT32_ATOL = 5e-6
"""The bound, of the image range, for a network that cannot run in float64."""

Feeds = Mapping[str, NDArray[Any]]
Images = NDArray[np.uint8]


def check_noise(noise: CpuSession, cases: Cases, latents: NDArray[np.float32]) -> None:
    """Check the noise graph against ganvas_core.noise, bit for bit.

    Args:
        latents: of the cases' seeds, [S, *latent_shape].
    Raises:
        GateError: one bit differs.
    """
    (made,) = noise.run(sample_inputs(cases.seeds, cases.truncation, cases.labels))
    different = made.view(np.uint32) != latents.view(np.uint32)
    if different.any():
        place = tuple(int(index[0]) for index in np.nonzero(different))
        raise GateError(
            f"noise parity failed: {cases.describe(place[0])}, dimension {', '.join(map(str, place[1:]))} is "
            f"{made[place]!r}, and {latents[place]!r} in ganvas_core.noise."
        )


@dataclass(frozen=True, kw_only=True)
class Reference:
    """PyTorch's outputs, and how far an fp32 graph may be from them."""

    outputs: Sequence[NDArray[Any]]
    atol: float
    precision: Literal["float32", "float64"]


def difference(made: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    """Element by element, relative where `wanted` is beyond 1 in size, as a log-variance may be."""
    exact = wanted.astype(np.float64)
    found: NDArray[np.float64] = np.abs(made - exact) / np.maximum(1.0, np.abs(exact))
    return found


def check_floats(
    graph: CpuSession,
    feeds: Feeds,
    reference: Reference,
    cases: Cases,
    batches: Sequence[int],
    *,
    precision: str = "fp32",
) -> FloatParity:
    """Compare the outputs of a graph with PyTorch's, in float, in every batch size.

    Raises:
        GateError: the worst difference is above the bound, or not a number.
    """
    worst = 0.0
    for batch in track(batches, f"{precision} against PyTorch"):
        for made, wanted in zip(graph.run_in_batches(feeds, batch), reference.outputs, strict=True):
            by_case = difference(made, wanted).reshape(len(made), -1).max(axis=1)
            row = int(np.argmax(by_case))
            if not by_case[row] <= reference.atol:
                raise GateError(
                    f"{precision} parity failed before rounding to uint8: max difference {by_case[row]:.3g} > "
                    f"{reference.atol:.3g} from PyTorch in {reference.precision} "
                    f"at {cases.describe(row % len(cases.seeds))}, batch {batch}."
                )
            worst = max(worst, float(by_case[row]))
    return FloatParity(atol=reference.atol, max_abs=worst, reference=reference.precision)


def check_pixels(made: Images, expected: Images, cases: Cases, *, precision: str, max_levels: int) -> PixelParity:
    """Compare uint8 images with those of PyTorch's floats, [S, H, W, C] each.

    Raises:
        GateError: a pixel differs by more than max_levels.
    """
    difference = np.abs(made.astype(np.int16) - expected.astype(np.int16)).reshape(len(made), -1)
    by_case = difference.max(axis=1)
    row = int(np.argmax(by_case))
    if by_case[row] > max_levels:
        raise GateError(
            f"{precision} parity failed: max pixel difference {by_case[row]} > {max_levels} levels "
            f"at {cases.describe(row)}."
        )
    errors = (difference.astype(np.float64) ** 2).mean(axis=1)
    worst = int(np.argmax(errors))
    return PixelParity(
        max_levels=int(by_case[row]),
        mean_levels=float(difference.mean()),
        worst_psnr_db=None if errors[worst] == 0 else 10 * math.log10(255**2 / errors[worst]),
        num_images=len(made),
        worst=None if errors[worst] == 0 else cases.describe(worst),
    )


def check_posteriors(made: NDArray[np.float32], expected: NDArray[np.float32], cases: Cases, *, atol: float) -> None:
    """Compare the golden posteriors of the fp16 file on the CPU provider with the fp32 file's, [G, 2, ...] each.

    Raises:
        GateError: one differs by more than atol, or is not a number.
    """
    by_case = difference(made, expected).reshape(len(made), -1).max(axis=1)
    row = int(np.argmax(by_case))
    if not by_case[row] <= atol:
        raise GateError(
            f"fp16 encode parity failed: its posterior of the golden image differs from fp32's by "
            f"{by_case[row]:.3g} > {atol:.3g} at {cases.describe(row)}."
        )


def check_batch_invariance(
    graph: CpuSession, feeds: Feeds, alone: Sequence[NDArray[Any]], cases: Cases, batches: Sequence[int], *, what: str
) -> None:
    """Run every case in every slot of every batch size: the same bytes as `alone`, which is each case by itself.

    Raises:
        BatchDependenceError: one byte differs.
    """
    num_rows = len(alone[0])
    places = [(batch, start) for batch in batches for start in range(num_rows)]
    for batch, start in track(places, f"{what}: every slot of batches of {', '.join(map(str, batches))}"):
        rows = (start + np.arange(batch)) % num_rows
        outputs = graph.run({name: array[rows] for name, array in feeds.items()})
        for made, wanted in zip(outputs, alone, strict=True):
            if (slot := _first_difference(made, wanted[rows])) is not None:
                raise BatchDependenceError(
                    f"{what} depends on its batch: {cases.describe(int(rows[slot]) % len(cases.seeds))} gives "
                    f"other bytes in slot {slot} of a batch of {batch} than alone."
                )


def check_equal(
    graph: CpuSession,
    feeds: Feeds,
    expected: Sequence[NDArray[Any]],
    cases: Cases,
    batches: Sequence[int],
    *,
    what: str,
) -> None:
    """Run every case once in every batch size: the same bytes as `expected`.

    Raises:
        GateError: one byte differs; BatchDependenceError where it does not in a batch of one.
    """
    for batch in track(batches, what):
        for made, wanted in zip(graph.run_in_batches(feeds, batch), expected, strict=True):
            if (row := _first_difference(made, wanted)) is not None:
                levels = int(np.abs(made[row].astype(np.int16) - wanted[row].astype(np.int16)).max())
                raise (GateError if batch == 1 else BatchDependenceError)(
                    f"{what} is not the image that sample gives: {cases.describe(row)} differs by {levels} levels in "
                    f"a batch of {batch}."
                )


def _first_difference(made: NDArray[Any], wanted: NDArray[Any]) -> int | None:
    """The first row with other bytes."""
    if made.tobytes() == wanted.tobytes():
        return None
    return next(row for row in range(len(wanted)) if made[row].tobytes() != wanted[row].tobytes())
