"""The bytes of a seed's image do not depend on how it was requested."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from clients.bench.targets import DIRECT_METHOD
from clients.local_server import LocalServer
from ganvas_client import Sampler

pytestmark = [pytest.mark.triton, pytest.mark.slow]

MODEL = "tiny-gan"
NUM_SEEDS = 10_000
NUM_CALLERS = 8
NUM_LABELS = 10
TRUNCATION = 0.9


@pytest.fixture(scope="module")
def seeds() -> NDArray[np.uint64]:
    """Half consecutive, half from all 64 bits, with both ends."""
    drawn = np.random.default_rng(7).integers(0, 2**64, NUM_SEEDS // 2 - 1, dtype=np.uint64)
    return np.concatenate([np.arange(NUM_SEEDS // 2, dtype=np.uint64), drawn, np.array([2**64 - 1], np.uint64)])


@pytest.fixture(scope="module")
def bare_hashes(model_repository: Path, seeds: NDArray[np.uint64]) -> list[bytes]:
    """Bare ONNX Runtime, one seed a call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = model_repository / MODEL / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    truncation = np.full((1, 1), TRUNCATION, np.float32)
    hashes = []
    for seed in seeds:
        label = np.array([[int(seed) % NUM_LABELS]], np.int64)
        inputs = {"seed": np.array([[seed]], np.uint64), "truncation": truncation, "label": label}
        (image,) = session.run(["image"], inputs)
        hashes.append(hashlib.sha256(image.tobytes()).digest())
    assert len(set(hashes)) > 0.99 * NUM_SEEDS, "images must differ for this test to mean anything"
    return hashes


def test_streamed_seeds_have_the_bytes_of_bare_onnxruntime_when_eight_callers_use_random_batches(
    served: LocalServer, seeds: NDArray[np.uint64], bare_hashes: list[bytes]
) -> None:
    rng = random.Random(11)
    order = np.array(rng.sample(range(NUM_SEEDS), NUM_SEEDS))
    cuts, start = [], 0
    while start < NUM_SEEDS:
        size = rng.randint(1, 150)
        cuts.append(order[start : start + size])
        start += size

    def stream(places: NDArray[np.int64]) -> list[tuple[int, int | None, bytes]]:
        images = sampler.sample_stream(MODEL, seeds[places], truncation=TRUNCATION)
        return [(int(places[p.index]), p.seed, hashlib.sha256(p.bytes).digest()) for p in images]

    with Sampler(served.service, direct=False) as sampler, ThreadPoolExecutor(NUM_CALLERS) as callers:
        answers = [answer for batch in callers.map(stream, cuts) for answer in batch]
    assert sorted(place for place, _, _ in answers) == list(range(NUM_SEEDS))
    different = [seed for place, seed, found in answers if found != bare_hashes[place] or seed != seeds[place]]
    assert different == []


def test_seeds_one_by_one_from_triton_have_the_bytes_of_bare_onnxruntime(
    served: LocalServer, seeds: NDArray[np.uint64], bare_hashes: list[bytes]
) -> None:
    with grpc.insecure_channel(served.triton_grpc) as channel:
        infer = channel.unary_unary(
            DIRECT_METHOD,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        different = []
        for seed, expected in zip(seeds, bare_hashes, strict=True):
            reply = infer(_direct_request(seed), timeout=30)
            if hashlib.sha256(reply.raw_output_contents[0]).digest() != expected:
                different.append(int(seed))
    assert different == []


def _direct_request(seed: np.uint64) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    tensors: dict[str, tuple[str, NDArray[Any]]] = {
        "seed": ("UINT64", np.array([seed], np.uint64)),
        "truncation": ("FP32", np.array([TRUNCATION], np.float32)),
        "label": ("INT64", np.array([int(seed) % NUM_LABELS], np.int64)),
    }
    for name, (datatype, values) in tensors.items():
        request.inputs.add(name=name, datatype=datatype, shape=[1, 1])
        request.raw_input_contents.append(values.tobytes())
    return request
