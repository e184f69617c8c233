"""The client library, our service and a real Triton, end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from clients.local_server import LocalServer
from ganvas_client import Sampler, latents

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def test_models_of_a_real_triton_are_exact(served: LocalServer) -> None:
    with Sampler(served.service) as sampler:
        models = sampler.models()
    assert {info.name: info.golden for info in models} == dict.fromkeys(("tiny-gan", "tiny-vae", "plain-gan"), "exact")


def test_images_of_every_road_are_those_of_bare_onnxruntime(served: LocalServer, model_repository: Path) -> None:
    seeds = np.random.default_rng(5).integers(0, 2**64, 40, np.uint64)
    truncation = np.float32(1.2)
    path = model_repository / "plain-gan" / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {"seed": seeds[:, None], "truncation": np.full((40, 1), truncation)}
    (expected,) = session.run(["image"], feeds)
    with Sampler(served.service) as sampler:
        assert np.array_equal(sampler.sample("plain-gan", seeds, truncation=1.2).array, expected)
        assert np.array_equal(sampler.sample("plain-gan", seeds, truncation=1.2, format="png").array, expected)
        assert np.array_equal(sampler.decode("plain-gan", latents(seeds, 12) * truncation).array, expected)
        streamed = sorted(sampler.sample_stream("plain-gan", seeds, truncation=1.2), key=lambda one: one.index)
        assert np.array_equal([image.array for image in streamed], expected)


def test_reconstruction_goes_through_encoder_and_decoder(served: LocalServer, model_repository: Path) -> None:
    with Sampler(served.service) as sampler:
        images = sampler.sample("tiny-vae", range(20), labels=3)
        posterior = sampler.encode("tiny-vae", images)
        again = sampler.decode("tiny-vae", posterior.mean, labels=3)
    encoder = onnxruntime.InferenceSession(
        model_repository / "tiny-vae-encode" / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    mean, logvar = encoder.run(["mean", "logvar"], {"image": images.array})
    assert np.array_equal(posterior.mean, mean)
    assert np.array_equal(posterior.logvar, logvar)
    assert again.array.shape == images.array.shape
