"""The noise, as a graph: ganvas_core.noise in Mul, Add, Div, Sub, Cast and Gather on uint64, bit for bit.

All of these have CUDA kernels for uint64, where the bitwise operators and shifts have none: so a shift is a division
or a product by a power of two, and the low 16 bits are what a product of the high ones leaves. It is not written in
torch, whose exporter turns an integer division into one of floats.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, TensorProto

from export.graph.writer import GraphWriter
from ganvas_core import noise
from ganvas_core.interface import Tensor
from ganvas_core.prior import Mixture, halves

__all__ = ["noise_graph"]


def noise_graph(latent_shape: tuple[int, ...], prior: Mixture | None = None) -> ModelProto:
    """The model seed uint64 [N, 1] → latent float32 [N, *latent_shape], which is ganvas_core.noise.latents(seed).

    With a prior (seed, truncation float32 [N, 1]) → latent, which is truncated_latents(seed, truncation, prior); where
    that depends on them, with label int64 [N, 1] as third input.

    Source: Widynski, Squares: A Fast Counter-Based RNG, arXiv:2004.06278v7.
    """
    writer = GraphWriter("noise")
    seed = Tensor(name="seed", datatype="UINT64", dims=(1,))
    latent = Tensor(name="latent", datatype="FP32", dims=latent_shape)
    if prior is not None:
        _mixture(writer, prior)
        inputs = [seed, Tensor(name="truncation", datatype="FP32", dims=(1,))]
        if prior.num_labels:
            inputs.append(Tensor(name="label", datatype="INT64", dims=(1,)))
        return writer.model(inputs=inputs, outputs=[latent])
    bits = _squares32(writer, "seed", noise.dimension_keys(math.prod(latent_shape)))
    if len(latent_shape) == 1:
        _gaussian(writer, bits, output="latent")
    else:
        shape = writer.constant("shape", np.array([-1, *latent_shape], np.int64))  # -1: the batch
        writer.op("Reshape", _gaussian(writer, bits), shape, output="latent")
    return writer.model(inputs=[seed], outputs=[latent])


def _mixture(writer: GraphWriter, prior: Mixture) -> None:
    """(seed, truncation, label) → latent: Mixture.place, product by product and sum by sum."""
    keys = noise.dimension_keys(prior.latent_dim + 1)
    scaled = writer.op("Mul", _gaussian(writer, _squares32(writer, "seed", keys[:-1])), "truncation")
    component = _component(writer, _squares32(writer, "seed", keys[-1:], prefix="component_"), prior)

    # A product for each number of the noise, then their sum, and the mean.
    num_rows = prior.padded_factors.shape[1]
    places = writer.constant("places", prior.padded_places)
    column = writer.constant("column", np.array([-1, num_rows, 1], np.int64))
    factors = writer.op("Gather", writer.constant("factors", prior.padded_factors), component, axis=0)
    spread = writer.op("Reshape", writer.op("Gather", scaled, places, axis=1), column)
    total = _sum_by_halves(writer, writer.op("Mul", factors, spread), num_rows)
    flat = writer.constant("flat", np.array([-1, prior.latent_dim], np.int64))
    means = writer.op("Gather", writer.constant("means", prior.array[:, 0]), component, axis=0)
    writer.op("Add", writer.op("Reshape", total, flat), means, output="latent")


def _component(writer: GraphWriter, bits: str, prior: Mixture) -> str:
    """[N, 1] uint64 below 2^32 → [N] int64: how many thresholds they reach.

    bits + (2^32 - threshold) reaches 2^32 where bits reach the threshold; a number of 0 in its place never does.
    """
    size = halves(max(1, len(prior.thresholds)))
    rows = prior.label_thresholds or (prior.thresholds,)
    table = np.zeros((len(rows), size), np.uint64)
    table[:, : len(prior.thresholds)] = 2**32 - np.array(rows, np.uint64)
    distances = writer.constant("distances", table)
    if prior.num_labels:
        flat_label = writer.op("Reshape", "label", writer.constant("flat_label", np.array([-1], np.int64)))
        distances = writer.op("Gather", distances, flat_label, axis=0)
    reached = writer.op("Add", bits, distances)
    two_to_32 = writer.constant("one_more", np.array(2**32, np.uint64))
    ones = writer.op("Cast", writer.op("Div", reached, two_to_32), to=TensorProto.FLOAT)
    count = _sum_by_halves(writer, ones, size)
    row = writer.constant("row", np.array([-1], np.int64))
    return writer.op("Reshape", writer.op("Cast", count, to=TensorProto.INT64), row)


def _sum_by_halves(writer: GraphWriter, terms: str, size: int) -> str:
    """[N, size, …] → [N, 1, …], size a power of two: the first half plus the second, until one is left."""
    while size > 1:
        size //= 2
        first, second = (
            writer.constant(f"{part}_half_of_{terms}", np.arange(start, start + size))
            for part, start in (("first", 0), ("second", size))
        )
        terms = writer.op("Add", writer.op("Gather", terms, first, axis=1), writer.op("Gather", terms, second, axis=1))
    return terms


def _squares32(writer: GraphWriter, counter: str, keys: noise.UInt64s, *, prefix: str = "") -> str:
    """[N, 1] counters and [Z] keys → [N, Z] uint64 below 2^32."""
    key = writer.constant(f"{prefix}keys", keys[None, :])
    two_to_32 = writer.constant(f"{prefix}two_to_32", np.array(2**32, np.uint64))
    x = y = writer.op("Mul", counter, key)
    z = writer.op("Add", y, key)
    for addend in (y, z, y):
        total = writer.op("Add", writer.op("Mul", x, x), addend)
        x = writer.op("Add", writer.op("Div", total, two_to_32), writer.op("Mul", total, two_to_32))
    return writer.op("Div", writer.op("Add", writer.op("Mul", x, x), z), two_to_32)


def _gaussian(writer: GraphWriter, bits: str, *, output: str | None = None) -> str:
    """[N, Z] uint64 below 2^32 → [N, Z] float32, standard normal: two table entries over the square root of 2."""
    table = writer.constant("quantiles", noise.quantiles())
    two_to_16 = writer.constant("two_to_16", np.array(2**16, np.uint64))
    high = writer.op("Div", bits, two_to_16)
    low = writer.op("Sub", bits, writer.op("Mul", high, two_to_16))
    first, second = (
        writer.op("Gather", table, writer.op("Cast", index, to=TensorProto.INT64), axis=0) for index in (high, low)
    )
    sqrt_2 = writer.constant("sqrt_2", np.array(noise.SQRT2))
    return writer.op("Div", writer.op("Add", first, second), sqrt_2, output=output)
