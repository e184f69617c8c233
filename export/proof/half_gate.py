"""The gate of an fp16 file: what it makes in half arithmetic, against PyTorch in float32.

Every figure is of the whole file, run node by node (half.py), over at least 256 seeds, the corners of truncation and
labels, and several batch sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import GateError
from export.graph.images import to_pixels
from export.graph.types import FP16_MAX
from export.proof.cases import Cases
from export.proof.half import NodeByNode
from ganvas_core.certificate import Activations, PixelParity
from ganvas_core.interface import Arrays
from ganvas_core.names import Role

__all__ = [
    "MAX_LEVELS",
    "MAX_MEAN_LEVELS",
    "MIN_PSNR_DB",
    "PEAK_LIMIT",
    "POSTERIOR_ATOL",
    "Expected",
    "HalfGateError",
    "Verdict",
    "judge_images",
    "judge_posterior",
]

MAX_LEVELS = 2
MAX_MEAN_LEVELS = 0.05
MIN_PSNR_DB = 65.0
"""Of the worst image."""
PEAK_LIMIT = FP16_MAX / 4
"""Of any half activation: seeds that nobody tried may go further than those that were."""
POSTERIOR_ATOL = 0.05
"""Of mean and logvar from an fp16 encoder: relative where beyond 1."""

NUM_SHOWN = 6

_BATCHES_OF_EACH_SIZE = 4
"""Every case runs in the largest batch, and so many batches in each smaller size."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What PyTorch makes of some inputs, in float32."""

    cases: Cases
    inputs: Arrays
    """A row for each case; of an encoder, images: the cases' own, and as many of noise."""
    outputs: tuple[NDArray[np.float32], ...]
    """Images [S, C, H, W]; of an encoder, mean and logvar."""
    image_range: tuple[float, float] = (0.0, 1.0)

    def at(self, rows: NDArray[np.intp]) -> Expected:
        """Some of the rows."""
        return Expected(
            cases=self.cases.at(rows % len(self.cases)),
            inputs={name: array[rows] for name, array in self.inputs.items()},
            outputs=tuple(array[rows] for array in self.outputs),
            image_range=self.image_range,
        )


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Some of the images, for a person to look at: the worst one first."""

    titles: tuple[str, ...]
    half: NDArray[np.uint8]
    torch: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a graph did in half arithmetic."""

    failures: tuple[str, ...]
    """Each a phrase with the figure, the bound and the worst case. Empty: it passes."""
    pixels: PixelParity | None
    """None for an encoder."""
    max_difference: float
    """Of an encoder's outputs, relative where beyond 1; of images, as a part of their range."""
    activations: Activations
    error: float
    """The largest root mean square of a row's differences: infinite where a value is not finite."""
    worst_rows: NDArray[np.intp]
    """Every row, the worst first."""
    images: Shown | None = None
    """None for an encoder."""


class HalfGateError(GateError):
    """An fp16 file failed in half arithmetic, which other nodes in float32 may mend."""

    def __init__(self, message: str, *, verdicts: Mapping[Role, Verdict]) -> None:
        super().__init__(message)
        self.verdicts = verdicts


def judge_images(graph: NodeByNode, expected: Expected, batches: Sequence[int]) -> Verdict:
    """Hold the images of a graph, uint8 of a file or float32 of a network, against PyTorch's."""
    rows, sizes, made = _run(graph, expected, batches)
    made_images = made[0]
    wanted = expected.outputs[0][rows]
    low, high = expected.image_range
    if made_images.dtype != np.uint8:
        errors = _row_errors(made_images - wanted) * 255 / (high - low)
        made_images = to_pixels(np.nan_to_num(made_images), expected.image_range)
    else:
        errors = np.zeros(len(rows))
    pixels_wanted = to_pixels(wanted, expected.image_range)
    difference = np.abs(made_images.astype(np.int16) - pixels_wanted.astype(np.int16)).reshape(len(rows), -1)
    mse = (difference.astype(np.float64) ** 2).mean(axis=1)
    order = np.lexsort((errors, mse, difference.max(axis=1)))[::-1]
    worst = int(order[0])
    by_psnr = int(np.argmax(mse))
    psnr = None if mse[by_psnr] == 0 else 10 * math.log10(255**2 / mse[by_psnr])
    activations = _activations(graph)
    shown = np.unique([worst, *np.linspace(0, len(rows) - 1, NUM_SHOWN).astype(int)])
    shown = np.concatenate([[worst], shown[shown != worst]])[:NUM_SHOWN]

    def at(row: int) -> str:
        return f"at {expected.cases.describe(int(rows[row]))}, batch {sizes[row]}"

    pixels = PixelParity(
        max_levels=int(difference.max()),
        mean_levels=float(difference.mean()),
        worst_psnr_db=psnr,
        arithmetic="half",
        num_images=len(rows),
        worst=at(worst).removeprefix("at "),
    )
    failures = _activation_failures(activations)
    if pixels.max_levels > MAX_LEVELS:
        failures.append(f"max pixel difference {pixels.max_levels} > {MAX_LEVELS} levels {at(worst)}")
    if pixels.mean_levels > MAX_MEAN_LEVELS:
        failures.append(f"mean pixel difference {pixels.mean_levels:.4f} > {MAX_MEAN_LEVELS} levels")
    if psnr is not None and psnr < MIN_PSNR_DB:
        failures.append(f"worst image {psnr:.1f} < {MIN_PSNR_DB:.0f} dB {at(by_psnr)}")
    return Verdict(
        failures=tuple(failures),
        pixels=pixels,
        max_difference=pixels.max_levels / 255,
        activations=activations,
        error=math.inf if activations.num_nonfinite else float(errors.max()),
        worst_rows=_unique(rows[order]),
        images=Shown(
            titles=tuple(at(int(row)).removeprefix("at ") for row in shown),
            half=made_images[shown],
            torch=pixels_wanted[shown],
        ),
    )


def judge_posterior(graph: NodeByNode, expected: Expected, batches: Sequence[int]) -> Verdict:
    """Hold an encoder's mean and logvar against PyTorch's."""
    rows, sizes, made = _run(graph, expected, batches)
    differences = [
        (np.abs(one - wanted[rows]) / np.maximum(1.0, np.abs(wanted[rows]))).reshape(len(rows), -1)
        for one, wanted in zip(made, expected.outputs, strict=True)
    ]
    every = np.nan_to_num(np.concatenate(differences, axis=1), nan=math.inf)
    by_row = every.max(axis=1)
    order = np.argsort(by_row)[::-1]
    worst = int(order[0])
    activations = _activations(graph)
    failures = _activation_failures(activations)
    if not by_row[worst] <= POSTERIOR_ATOL:
        where = expected.cases.describe(int(rows[worst]) % len(expected.cases))
        failures.append(f"max difference {by_row[worst]:.3g} > {POSTERIOR_ATOL} at {where}, batch {sizes[worst]}")
    return Verdict(
        failures=tuple(failures),
        pixels=None,
        max_difference=float(by_row[worst]),
        activations=activations,
        error=math.inf if activations.num_nonfinite else float(_row_errors(every).max()),
        worst_rows=_unique(rows[order]),
    )


def _run(
    graph: NodeByNode, expected: Expected, batches: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], list[NDArray[Any]]]:
    """Row numbers, their batch sizes, and what was made of them: all in the largest batch, some in each other."""
    num_rows = len(expected.outputs[0])
    rows, sizes, parts = [], [], []
    for batch in batches:
        some = np.arange(num_rows if batch == max(batches) else min(num_rows, _BATCHES_OF_EACH_SIZE * batch))
        rows.append(some)
        sizes.append(np.full(len(some), batch))
        parts.append(graph.run_in_batches({name: array[some] for name, array in expected.inputs.items()}, batch))
    return np.concatenate(rows), np.concatenate(sizes), [np.concatenate(every) for every in zip(*parts, strict=True)]


def _activations(graph: NodeByNode) -> Activations:
    value, peak = graph.half_peak()
    nonfinite = graph.activations.num_nonfinite
    first = next((name for name in graph.activations.peaks if name in nonfinite), value)
    return Activations(
        peak=peak,
        limit=PEAK_LIMIT,
        node=graph.maker(first) if first else "",
        num_nonfinite=sum(nonfinite.values()),
    )


def _activation_failures(activations: Activations) -> list[str]:
    if activations.num_nonfinite:
        return [f"{activations.num_nonfinite} values are infinite or not a number, first of {activations.node}"]
    if activations.peak > PEAK_LIMIT:
        return [
            f"an activation of {activations.peak:.3g} > {PEAK_LIMIT:.0f}, a quarter of half's, in {activations.node}"
        ]
    return []


def _row_errors(difference: NDArray[Any]) -> NDArray[np.float64]:
    flat = difference.reshape(len(difference), -1).astype(np.float64)
    rms: NDArray[np.float64] = np.sqrt(np.nan_to_num((flat**2).mean(axis=1), nan=math.inf))
    return rms


def _unique(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Without repetition, in order of first appearance."""
    return np.array(list(dict.fromkeys(rows.tolist())), np.intp)
