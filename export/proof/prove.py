"""The proof of an export: every check of parity.py on every file, in order, and the fp16 files in half arithmetic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from export.adapters.call import NetworkError
from export.adapters.check import check_images
from export.adapters.source import Source
from export.errors import GateError
from export.graph.build import Graphs
from export.graph.images import to_pixels
from export.graph.network import generator_inputs, wrap_generator
from export.graph.writer import Graph
from export.options import ExportOptions
from export.proof import parity
from export.proof.cases import Cases, batch_sizes, make_cases
from export.proof.float64 import float64_outputs, torch_outputs
from export.proof.half import NodeByNode
from export.proof.half_gate import (
    POSTERIOR_ATOL,
    Expected,
    HalfGateError,
    Verdict,
    judge_images,
    judge_posterior,
)
from ganvas_core import noise
from ganvas_core.certificate import FloatParity, PixelParity
from ganvas_core.interface import Arrays, decode_inputs, joined, sample_inputs
from ganvas_core.names import FP16_FILE, FP32_FILE, Role
from ganvas_core.session import CpuSession

__all__ = [
    "MAX_LEVELS",
    "HalfExpected",
    "Proof",
    "expect_half",
    "posterior_reference",
    "prove",
    "prove_fp16",
    "torch_reference",
]

MAX_LEVELS = {FP32_FILE: 1, FP16_FILE: 2}
"""The largest difference of a pixel from PyTorch's, in uint8 levels."""

_TORCH_BATCH = 16

OpenGraph: TypeAlias = Callable[[Graph], CpuSession]


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
    """By file name: of fp32 on the CPU provider, of fp16 in half arithmetic."""
    images: dict[str, NDArray[np.uint8]]
    """By file name: the images of every case, each made alone on the CPU provider, [S, H, W, C]."""
    expected: NDArray[np.uint8]
    """PyTorch's images of every case, in float32."""
    posteriors: dict[str, NDArray[np.float32]] = dataclasses.field(default_factory=dict)
    """By file name: mean and logvar of the fp32 file's golden images, each made alone on the CPU provider,
    [G, 2, *latent_shape]; empty without an encoder."""
    half: dict[Role, Verdict] = dataclasses.field(default_factory=dict)
    """What the fp16 files did in half arithmetic; empty without them."""
    num_half_seeds: int | None = None
    """Over so many seeds, and the corners."""


@dataclass(frozen=True, kw_only=True)
class HalfExpected:
    """What the fp16 files are held against in half arithmetic."""

    images: Expected
    posterior: Expected | None


def prove(source: Source, graphs: Graphs, options: ExportOptions, *, pinned_batch: int | None = None) -> Proof:
    """Run every check of the fp32 files.

    Args:
        pinned_batch: prove the graphs in batches of this size alone, smaller ones filled up.
    Raises:
        BatchDependenceError: an image depends on its batch.
        InputError: an image leaves the image range.
        GateError: the first that failed, with the worst case and the figure.
    """
    cases = make_cases(
        num_golden=options.num_golden,
        num_more=options.num_parity_seeds - options.num_golden,
        num_labels=len(source.labels),
    )
    batches = batch_sizes(options.max_batch_size)
    open_graph = partial(Graph.open, threads=options.threads, pinned_batch=pinned_batch)
    floats, float_parity = _prove_network(source, graphs, cases, batches, open_graph)

    # The published files: the same bytes in every batch, from decode too, and close to PyTorch's.
    expected = to_pixels(floats, source.image_range)
    if len(expected) > 1 and (expected == expected[0]).all():
        raise GateError(
            f"the network makes one and the same image of all {len(expected)} seeds: it ignores its latent, or all "
            "its images are blank. Train it further, or correct image_range."
        )
    images = _check_invariance(source, graphs, FP32_FILE, cases, batches, open_graph)
    pixels = parity.check_pixels(images, expected, cases, precision="fp32", max_levels=MAX_LEVELS[FP32_FILE])
    posterior: dict[str, FloatParity] = {}
    posteriors: dict[str, NDArray[np.float32]] = {}
    if source.encoder is not None:
        found, made = _prove_encoder(source, source.encoder, graphs, images, cases, batches, open_graph)
        posterior[FP32_FILE], posteriors[FP32_FILE] = found, made[: options.num_golden]
    return Proof(
        cases=cases,
        num_golden=options.num_golden,
        batches=batches,
        pinned_batch=pinned_batch,
        float_parity=float_parity,
        posterior_parity=posterior,
        pixel_parity={FP32_FILE: pixels},
        images={FP32_FILE: images},
        expected=expected,
        posteriors=posteriors,
    )


def _prove_network(
    source: Source, graphs: Graphs, cases: Cases, batches: tuple[int, ...], open_graph: OpenGraph
) -> tuple[NDArray[np.float32], FloatParity]:
    """Noise, bit for bit; then the network in float. Gives PyTorch's images in float32, [S, C, H, W], too.

    Batch invariance comes before PyTorch, with batch norm and all: rounding to uint8 would hide most differences of a
    few seeds.
    """
    latents = source.network_latents(cases.seeds, cases.truncation, cases.labels)
    parity.check_noise(open_graph(graphs.noise), cases, latents)
    inputs = sample_inputs(cases.seeds, cases.truncation, cases.labels) | {"latent": latents}
    network = open_graph(graphs.network)
    alone = network.run_in_batches(inputs, 1)
    parity.check_batch_invariance(network, inputs, alone, cases, batches, what="the network")
    floats, reference = torch_reference(source, cases)
    check_images(floats, source, cases.describe)
    # Its session ends here: each may hold a copy of the weights, so there is one at a time.
    return floats, parity.check_floats(network, inputs, reference, cases, batches)


def _prove_encoder(
    source: Source,
    encoder: torch.nn.Module,
    graphs: Graphs,
    images: NDArray[np.uint8],
    cases: Cases,
    batches: tuple[int, ...],
    open_graph: OpenGraph,
) -> tuple[FloatParity, NDArray[np.float32]]:
    """The posterior of the model's own images, and of as many of noise; what each of them is, alone."""
    inputs = _encoder_inputs(images)
    reference = posterior_reference(source, encoder, inputs["image"])
    session = open_graph(graphs.files["encode", FP32_FILE])
    found = parity.check_floats(session, inputs, reference, cases, batches, precision="fp32 encode")
    alone = session.run_in_batches(inputs, 1)
    parity.check_batch_invariance(session, inputs, alone, cases, batches, what=f"{FP32_FILE}: encode")
    return found, joined(alone)


def expect_half(source: Source, cases: Cases, images: NDArray[np.uint8]) -> HalfExpected:
    """What PyTorch makes of the cases in float32, and of `images` and as many of noise if there is an encoder.

    Raises:
        InputError: an image leaves the image range.
    """
    inputs = sample_inputs(cases.seeds, cases.truncation, cases.labels)
    inputs["latent"] = source.network_latents(cases.seeds, cases.truncation, cases.labels)
    floats = torch_outputs(wrap_generator(source), _generator_rows(source, inputs), batch=_TORCH_BATCH)
    check_images(floats[0], source, cases.describe)
    made = Expected(cases=cases, inputs=inputs, outputs=floats, image_range=source.image_range)
    if source.encoder is None:
        return HalfExpected(images=made, posterior=None)
    encoder_inputs = _encoder_inputs(images)
    floats_in = _preprocessed(source, encoder_inputs["image"])
    encoder_inputs["image_float"] = floats_in.numpy()
    posterior = torch_outputs(source.encoder, [floats_in], batch=_TORCH_BATCH)
    return HalfExpected(images=made, posterior=Expected(cases=cases, inputs=encoder_inputs, outputs=posterior))


def prove_fp16(source: Source, graphs: Graphs, proof: Proof, expected: HalfExpected, options: ExportOptions) -> Proof:
    """Run every check of the fp16 files, and add what they gave to the proof of the fp32 ones.

    Raises:
        HalfGateError: a file fails in half arithmetic.
        GateError: another check failed, with the worst case and the figure.
    """
    # In half arithmetic, node by node: what decides.
    batches = proof.batches
    verdicts: dict[Role, Verdict] = {}
    sampler = NodeByNode(graphs.files["sample", FP16_FILE].model, threads=options.threads)
    verdicts["sample"] = judge_images(sampler, expected.images, batches)
    del sampler
    if expected.posterior is not None:
        encoder = NodeByNode(graphs.files["encode", FP16_FILE].model, threads=options.threads)
        verdicts["encode"] = judge_posterior(encoder, expected.posterior, batches)
    for role, verdict in verdicts.items():
        if verdict.failures:
            raise HalfGateError(
                f"fp16 {role} failed in half arithmetic: {'; '.join(verdict.failures)}.", verdicts=verdicts
            )
    verdicts["decode"] = verdicts["sample"]

    # On the CPU provider, which computes the same files in float32.
    open_graph = partial(Graph.open, threads=options.threads, pinned_batch=proof.pinned_batch)
    images = _check_invariance(source, graphs, FP16_FILE, proof.cases, batches, open_graph)
    parity.check_pixels(images, proof.expected, proof.cases, precision="fp16", max_levels=MAX_LEVELS[FP16_FILE])
    pixels = verdicts["sample"].pixels
    assert pixels is not None
    proof = dataclasses.replace(
        proof,
        pixel_parity=proof.pixel_parity | {FP16_FILE: pixels},
        images=proof.images | {FP16_FILE: images},
        half=verdicts,
        num_half_seeds=options.num_half_seeds,
    )
    if "encode" not in verdicts:
        return proof
    inputs = _encoder_inputs(proof.images[FP32_FILE])
    encode = open_graph(graphs.files["encode", FP16_FILE])
    alone = encode.run_in_batches(inputs, 1)
    parity.check_batch_invariance(encode, inputs, alone, proof.cases, batches, what=f"{FP16_FILE}: encode")
    found = FloatParity(
        atol=POSTERIOR_ATOL, max_abs=verdicts["encode"].max_difference, reference="float32", arithmetic="half"
    )
    posteriors = joined(alone)[: proof.num_golden]
    parity.check_posteriors(posteriors, proof.posteriors[FP32_FILE], proof.cases, atol=POSTERIOR_ATOL)
    return dataclasses.replace(
        proof,
        posterior_parity=proof.posterior_parity | {FP16_FILE: found},
        posteriors=proof.posteriors | {FP16_FILE: posteriors},
    )


def torch_reference(source: Source, cases: Cases) -> tuple[NDArray[np.float32], parity.Reference]:
    """PyTorch's images of the cases in float32, [S, C, H, W], and what the fp32 graph is held against."""
    inputs = sample_inputs(cases.seeds, cases.truncation, cases.labels)
    inputs["latent"] = source.network_latents(cases.seeds, cases.truncation, cases.labels)
    low, high = source.image_range
    (floats,), reference = _references(wrap_generator(source), _generator_rows(source, inputs), unit=high - low)
    return floats, reference


def posterior_reference(source: Source, encoder: torch.nn.Module, images: NDArray[np.uint8]) -> parity.Reference:
    """What an fp32 encode graph is held against: PyTorch's mean and logvar of the images."""
    _, reference = _references(encoder, [_preprocessed(source, images)], unit=1.0)
    return reference


def _references(
    network: torch.nn.Module, rows: list[torch.Tensor], *, unit: float
) -> tuple[tuple[NDArray[Any], ...], parity.Reference]:
    """What PyTorch makes in float32, and what the fp32 graph is held against: PyTorch in float64.

    A network that cannot run in float64, because it names a type itself, is held against its float32.

    Args:
        unit: the size that its outputs have by design: the image range.
    """
    single = torch_outputs(network, rows, batch=_TORCH_BATCH)
    try:
        double = float64_outputs(network, rows, batch=_TORCH_BATCH)
    except NetworkError:
        return single, parity.Reference(outputs=single, atol=parity.FLOAT32_ATOL * unit, precision="float32")
    own_error = max(parity.difference(one, wanted).max() for one, wanted in zip(single, double, strict=True))
    atol = max(parity.NUM_OWN_ERRORS * float(own_error), parity.FLOOR * unit)
    return single, parity.Reference(outputs=double, atol=atol, precision="float64")


def _generator_rows(source: Source, inputs: Arrays) -> list[torch.Tensor]:
    return [torch.from_numpy(inputs[name]) for name in generator_inputs(source)]


def _encoder_inputs(images: NDArray[np.uint8]) -> Arrays:
    """The model's own images, and as many of noise."""
    noisy = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    return {"image": np.concatenate([images, noisy])}


def _preprocessed(source: Source, images: NDArray[np.uint8]) -> torch.Tensor:
    low, high = source.image_range
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 * (high - low) + low


def _check_invariance(
    source: Source,
    graphs: Graphs,
    file_name: str,
    cases: Cases,
    batches: tuple[int, ...],
    open_graph: OpenGraph,
) -> NDArray[np.uint8]:
    """The images of a file, each made alone, once they are found to be the same in every batch and from decode."""
    sample = sample_inputs(cases.seeds, cases.truncation, cases.labels)
    sampler = open_graph(graphs.files["sample", file_name])
    alone = sampler.run_in_batches(sample, 1)
    parity.check_batch_invariance(sampler, sample, alone, cases, batches, what=f"{file_name}: sample")
    (images,) = alone
    del sampler
    _check_decode(source, graphs, file_name, cases, batches, images, open_graph)
    return images


def _check_decode(
    source: Source,
    graphs: Graphs,
    file_name: str,
    cases: Cases,
    batches: tuple[int, ...],
    images: NDArray[np.uint8],
    open_graph: OpenGraph,
) -> None:
    """decode(latent · truncation) is the sampler's image: for a network with its own truncation, at truncation 1."""
    decode = open_graph(graphs.files["decode", file_name])
    latents = noise.truncated_latents(cases.seeds, cases.truncation, source.latent_shape, source.prior, cases.labels)
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
