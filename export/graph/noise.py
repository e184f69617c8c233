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

__all__ = ["noise_graph"]


def noise_graph(latent_shape: tuple[int, ...]) -> ModelProto:
    """The model seed uint64 [N, 1] → latent float32 [N, *latent_shape], which is ganvas_core.noise.latents(seed).

    Source: Widynski, Squares: A Fast Counter-Based RNG, arXiv:2004.06278v7.
    """
    writer = GraphWriter("noise")
    bits = _squares32(writer, "seed", noise.dimension_keys(math.prod(latent_shape)))
    if len(latent_shape) == 1:
        _gaussian(writer, bits, output="latent")
    else:
        shape = writer.constant("shape", np.array([-1, *latent_shape], np.int64))  # -1: the batch
        writer.op("Reshape", _gaussian(writer, bits), shape, output="latent")
    return writer.model(
        inputs=[Tensor(name="seed", datatype="UINT64", dims=(1,))],
        outputs=[Tensor(name="latent", datatype="FP32", dims=latent_shape)],
    )


def _squares32(writer: GraphWriter, counter: str, keys: noise.UInt64s) -> str:
    """[N, 1] counters and [Z] keys → [N, Z] uint64 below 2^32."""
    key = writer.constant("keys", keys[None, :])
    two_to_32 = writer.constant("two_to_32", np.array(2**32, np.uint64))
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
