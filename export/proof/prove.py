"""The proof of an export: every check of parity.py, on every file, in order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from export.adapters.source import Source
from export.errors import GateError
from export.graph.build import PRECISIONS, Graphs, fp16_decode
from export.graph.images import to_pixels
from export.graph.network import wrap_generator
from export.options import ExportOptions
from export.proof import parity
from export.proof.cases import Cases, batch_sizes, make_cases
from ganvas_core import noise
from ganvas_core.certificate import FloatParity, PixelParity
from ganvas_core.interface import Arrays, decode_inputs, sample_inputs
from ganvas_core.names import FP16_FILE, FP32_FILE
from ganvas_core.session import CpuSession

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
    pinned_batch: int | None
    """The one batch size that the graphs were run in. None: every one of batches."""
    float_parity: FloatParity
    posterior_parity: dict[str, FloatParity]
    """By file name; empty without an encoder."""
    pixel_parity: dict[str, PixelParity]
    """By file name."""
    images: dict[str, NDArray[np.uint8]]
    """By file name: the images of every case, each made alone, [S, H, W, C]."""


def prove(source: Source, graphs: Graphs, options: ExportOptions, *, pinned_batch: int | None = None) -> Proof:
    """Run every check.

    Args:
        pinned_batch: prove the graphs in batches of this size alone, smaller ones filled up.
    Raises:
        BatchDependenceError: an image depends on its batch.
        GateError: the first that failed, with the worst case and the figure.
    """
    cases = make_cases(
        num_golden=options.num_golden,
        num_more=options.num_parity_seeds - options.num_golden,
        num_labels=len(source.labels),
    )
    batches = batch_sizes(options.max_batch_size)
    open_graph = partial(CpuSession, threads=options.threads, pinned_batch=pinned_batch)
    sample = sample_inputs(cases.seeds, cases.truncation, cases.labels)
    latents = noise.latents(cases.seeds, source.latent_shape)

    # Noise, bit for bit; then the network in float, against PyTorch with batch norm and all.
    parity.check_noise(open_graph(graphs.noise.data), cases, latents)
    network_inputs = sample | {"latent": latents}
    with torch.inference_mode():
        names = ("latent", "truncation", "label") if source.labels else ("latent", "truncation")
        floats = wrap_generator(source)(*(torch.from_numpy(network_inputs[name]) for name in names)).numpy()
    network = open_graph(graphs.network.data)
    # Batch invariance in float first, since rounding to uint8 hides most differences of a few seeds.
    alone = network.run_in_batches(network_inputs, 1)
    parity.check_batch_invariance(network, network_inputs, alone, cases, batches, what="the network")
    float_parity = parity.check_floats(network, network_inputs, [floats], cases, batches)

    # The published files: the same bytes in every batch, from decode too, and close to PyTorch's.
    expected = to_pixels(floats, source.image_range)
    images: dict[str, NDArray[np.uint8]] = {}
    pixel_parity: dict[str, PixelParity] = {}
    for file_name in PRECISIONS:
        sampler = open_graph(graphs.files["sample", file_name].data)
        alone = sampler.run_in_batches(sample, 1)
        images[file_name] = alone[0]
        parity.check_batch_invariance(sampler, sample, alone, cases, batches, what=f"{file_name}: sample")
        _check_decode(source, graphs, file_name, cases, batches, images[file_name], open_graph)
        try:
            pixel_parity[file_name] = _check_pixels(file_name, images[file_name], expected, cases)
        except GateError as error:
            if file_name == FP32_FILE:
                raise
            raise GateError(f"{error} {_advise_fp32(source, graphs, expected, cases, options)}") from None
    return Proof(
        cases=cases,
        num_golden=options.num_golden,
        batches=batches,
        pinned_batch=pinned_batch,
        float_parity=float_parity,
        posterior_parity=_prove_posterior(source, graphs, images[FP32_FILE], cases, batches, open_graph),
        pixel_parity=pixel_parity,
        images=images,
    )


def _check_decode(
    source: Source,
    graphs: Graphs,
    file_name: str,
    cases: Cases,
    batches: tuple[int, ...],
    images: NDArray[np.uint8],
    open_graph: Callable[[bytes], CpuSession],
) -> None:
    """decode(latent · truncation) is the sampler's image: for a network with its own truncation, at truncation 1."""
    decode = open_graph(graphs.files["decode", file_name].data)
    latents = noise.truncated_latents(cases.seeds, cases.truncation, source.latent_shape)
    inputs, what = decode_inputs(latents, cases.labels), f"{file_name}: decode(latent(seed) * truncation)"
    if source.truncation == "latent":
        parity.check_equal(decode, inputs, [images], cases, batches, what=what)
        return
    alone = decode.run_in_batches(inputs, 1)
    parity.check_batch_invariance(decode, inputs, alone, cases, batches, what=f"{file_name}: decode")
    rows = np.flatnonzero(cases.truncation == 1.0)
    parity.check_equal(
        decode,
        {name: array[rows] for name, array in inputs.items()},
        [images[rows]],
        cases.at(rows),
        batches,
        what=f"{file_name}: decode(latent(seed))",
    )


def _check_pixels(file_name: str, made: NDArray[np.uint8], expected: NDArray[np.uint8], cases: Cases) -> PixelParity:
    return parity.check_pixels(made, expected, cases, precision=PRECISIONS[file_name], max_levels=MAX_LEVELS[file_name])


def _advise_fp32(
    source: Source, graphs: Graphs, expected: NDArray[np.uint8], cases: Cases, options: ExportOptions
) -> str:
    """Which one convolution, kept in float32, would let the fp16 file pass: tried one after the other."""
    rows = np.flatnonzero(cases.truncation == 1.0) if source.truncation == "network" else np.arange(len(cases))
    tried = cases.at(rows)
    latents = noise.truncated_latents(tried.seeds, tried.truncation, source.latent_shape)
    inputs = decode_inputs(latents, tried.labels)
    passing: list[str] = []
    for node in graphs.decoder.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        graph = fp16_decode(graphs, source, keep_fp32={*graphs.fp32_nodes["decode"], node.name})
        (made,) = CpuSession(graph.data, threads=options.threads).run_in_batches(inputs, options.max_batch_size)
        with contextlib.suppress(GateError):
            _check_pixels(FP16_FILE, made, expected[rows], tried)
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
    open_graph: Callable[[bytes], CpuSession],
) -> dict[str, FloatParity]:
    """The encoder on the model's own images and on as many of noise: parity and batch invariance."""
    if source.encoder is None:
        return {}
    noisy = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    inputs: Arrays = {"image": np.concatenate([images, noisy])}
    low, high = source.image_range
    floats = torch.from_numpy(inputs["image"]).permute(0, 3, 1, 2).float() / 255 * (high - low) + low
    with torch.inference_mode():
        posterior = [output.numpy() for output in source.encoder(floats)]
    found: dict[str, FloatParity] = {}
    for file_name, precision in PRECISIONS.items():
        encoder = open_graph(graphs.files["encode", file_name].data)
        atol = parity.FLOAT_ATOL if file_name == FP32_FILE else _FP16_POSTERIOR_ATOL
        found[file_name] = parity.check_floats(
            encoder, inputs, posterior, cases, batches, precision=f"{precision} encode", atol=atol
        )
        alone = encoder.run_in_batches(inputs, 1)
        parity.check_batch_invariance(encoder, inputs, alone, cases, batches, what=f"{file_name}: encode")
    return found
