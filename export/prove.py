"""The proof of an export: every check of parity.py, on every file, in order."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from export import parity
from export.cases import Cases, batch_sizes, make_cases
from export.errors import GateError
from export.graphs import PRECISIONS, Graphs, fp16_decode
from export.options import ExportOptions
from export.runtime import Arrays, Runner, feeds_of
from export.source import Source
from export.tail import to_pixels
from ganvas_core.certificate import FloatParity, PixelParity
from ganvas_core.names import FP16_FILE, FP32_FILE

__all__ = ["MAX_LEVELS", "Proof", "prove"]

MAX_LEVELS = {FP32_FILE: 1, FP16_FILE: 2}
"""The largest difference of a pixel from PyTorch's, in uint8 levels."""

_FP16_POSTERIOR_ATOL = 0.05
"""Of mean and logvar from the fp16 encoder: relative where beyond 1."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    cases: Cases
    num_golden: int
    """The first so many cases are golden."""
    batches: tuple[int, ...]
    float_parity: FloatParity
    posterior_parity: dict[str, FloatParity]
    """By file name; empty without an encoder."""
    pixel_parity: dict[str, PixelParity]
    """By file name."""
    images: dict[str, NDArray[np.uint8]]
    """By file name: the images of every case, each made alone, [S, H, W, C]."""


def prove(source: Source, graphs: Graphs, options: ExportOptions) -> Proof:
    """Run every check.

    Raises:
        GateError: the first that failed, with the worst case and the figure.
    """
    cases = make_cases(
        num_golden=options.num_golden,
        num_more=options.num_parity_seeds - options.num_golden,
        num_labels=len(source.labels),
    )
    batches = batch_sizes(options.max_batch_size)
    feeds = feeds_of(cases, source.latent_shape)
    parity.check_noise(Runner(graphs.noise, threads=options.threads), cases, feeds)
    floats = _torch_floats(source, feeds)
    float_parity = parity.check_floats(Runner(graphs.network, threads=options.threads), feeds, [floats], cases, batches)
    expected = to_pixels(floats, source.image_range)
    images: dict[str, NDArray[np.uint8]] = {}
    pixel_parity: dict[str, PixelParity] = {}
    for file_name in PRECISIONS:
        images[file_name] = _prove_images(graphs, file_name, feeds, cases, batches, options)
        try:
            pixel_parity[file_name] = _check_pixels(file_name, images[file_name], expected, cases)
        except GateError as error:
            if file_name == FP32_FILE:
                raise
            advice = _advise_fp32(source, graphs, feeds, expected, cases, options)
            raise GateError(f"{error} {advice}") from None
    return Proof(
        cases=cases,
        num_golden=options.num_golden,
        batches=batches,
        float_parity=float_parity,
        posterior_parity=_prove_posterior(source, graphs, images[FP32_FILE], cases, batches, options),
        pixel_parity=pixel_parity,
        images=images,
    )


def _prove_images(
    graphs: Graphs, file_name: str, feeds: Arrays, cases: Cases, batches: tuple[int, ...], options: ExportOptions
) -> NDArray[np.uint8]:
    """Each case's image, made alone: the sampler gives it in every batch, and so does decode."""
    sampler = Runner(graphs.files["sample", file_name], threads=options.threads)
    alone = sampler.run_in_batches(feeds, 1)
    parity.check_batch_invariance(sampler, feeds, alone, cases, batches, what=f"{file_name}: sample")
    decode = Runner(graphs.files["decode", file_name], threads=options.threads)
    parity.check_equal(decode, feeds, alone, cases, batches, what=f"{file_name}: decode(latent(seed) * truncation)")
    images: NDArray[np.uint8] = alone[0]
    return images


def _check_pixels(file_name: str, made: NDArray[np.uint8], expected: NDArray[np.uint8], cases: Cases) -> PixelParity:
    return parity.check_pixels(made, expected, cases, precision=PRECISIONS[file_name], max_levels=MAX_LEVELS[file_name])


def _advise_fp32(
    source: Source,
    graphs: Graphs,
    feeds: Arrays,
    expected: NDArray[np.uint8],
    cases: Cases,
    options: ExportOptions,
) -> str:
    """Which one convolution, kept in float32, would let the fp16 file pass: tried one after the other."""
    passing: list[str] = []
    for node in graphs.network.model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        graph = fp16_decode(graphs, source, keep_fp32={*graphs.fp32_nodes["decode"], node.name})
        (made,) = Runner(graph, threads=options.threads).run_in_batches(feeds, options.max_batch_size)
        with contextlib.suppress(GateError):
            _check_pixels(FP16_FILE, made, expected, cases)
            passing.append(node.name)
    if not passing:
        return "No single convolution kept in fp32 would pass."
    return f"Kept in fp32 would pass: {', '.join(passing)}. Export again with --fp32-node {passing[-1]}."


def _prove_posterior(
    source: Source,
    graphs: Graphs,
    images: NDArray[np.uint8],
    cases: Cases,
    batches: tuple[int, ...],
    options: ExportOptions,
) -> dict[str, FloatParity]:
    """The encoder on images of the model's own and on noise, as many of each: parity and batch invariance."""
    if source.encoder is None:
        return {}
    noisy = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    feeds: Arrays = {"image": np.concatenate([images, noisy])}
    posterior = _torch_posterior(source, feeds["image"])
    found: dict[str, FloatParity] = {}
    for file_name, precision in PRECISIONS.items():
        encoder = Runner(graphs.files["encode", file_name], threads=options.threads)
        atol = parity.FLOAT_ATOL if file_name == FP32_FILE else _FP16_POSTERIOR_ATOL
        found[file_name] = parity.check_floats(
            encoder, feeds, posterior, cases, batches, precision=f"{precision} encode", atol=atol
        )
        alone = encoder.run_in_batches(feeds, 1)
        parity.check_batch_invariance(encoder, feeds, alone, cases, batches, what=f"{file_name}: encode")
    return found


def _torch_floats(source: Source, feeds: Arrays) -> NDArray[np.float32]:
    """[S, C, H, W] float32: what the network as trained, batch norm and all, makes of every latent."""
    latent = torch.from_numpy(feeds["latent"])
    with torch.inference_mode():
        label = (torch.from_numpy(feeds["label"]).squeeze(1),) if "label" in feeds else ()
        floats: NDArray[np.float32] = source.generator(latent, *label).numpy()
    return floats


def _torch_posterior(source: Source, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Mean and logvar of [S, H, W, C] uint8 images, [S, Z] float32 each."""
    assert source.encoder is not None
    low, high = source.image_range
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 * (high - low) + low
    with torch.inference_mode():
        return [output.numpy() for output in source.encoder(floats)]
