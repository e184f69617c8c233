"""The client's three ways give the same: Triton alone, Triton through the gateway, and the sampling service."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clients.local_server import LocalServer
from ganvas_client import InvalidArgumentError, Sampler, latents

pytestmark = [pytest.mark.triton, pytest.mark.slow]

NUM_REQUESTS = 80
LABELS = {"tiny-gan": 10, "tiny-vae": 10, "plain-gan": 0}


def random_request(
    rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]
) -> tuple[str, str, Any, dict[str, Any]]:
    """A call that both ways can answer: method, model, and its other arguments."""
    model = str(rng.choice(list(LABELS)))
    method = str(rng.choice(["sample", "sample_stream", "decode", "walk"]))
    count = int(rng.integers(1, 60))
    seeds = rng.integers(0, 2**64, count, np.uint64)
    arguments: dict[str, Any] = {"truncation": float(np.float32(rng.uniform(0, 1.5)))}
    if method == "walk":
        if LABELS[model]:
            arguments["label"] = int(rng.integers(LABELS[model]))
        return method, model, [*seeds[:3].tolist(), 1, 2], arguments | {"steps": int(rng.integers(1, 9))}
    if LABELS[model] and (method == "decode" or rng.random() < 0.7):
        one = int(rng.integers(LABELS[model]))
        arguments["labels"] = one if rng.random() < 0.5 else rng.integers(0, LABELS[model], count).tolist()
    if method == "decode":
        del arguments["truncation"]
        return method, model, latents(seeds, shapes[model]), arguments
    return method, model, range(count) if rng.random() < 0.3 else seeds, arguments


def test_all_ways_give_the_same_images(served: LocalServer) -> None:
    rng = np.random.default_rng(11)
    with (
        Sampler(served.service) as short,
        Sampler(served.service, direct=False) as through,
        Sampler.direct(served.triton_grpc) as alone,
    ):
        shapes = {info.name: info.latent_shape for info in through.models()}
        for _ in range(NUM_REQUESTS):
            method, model, what, arguments = random_request(rng, shapes)
            theirs, *ours = (
                sorted(getattr(way, method)(model, what, **arguments), key=lambda image: image.index)
                for way in (through, short, alone)
            )
            case = (method, model, len(theirs), arguments)
            assert ours == [theirs, theirs], case
        assert short._direct  # Triton answered
        images = short.sample("tiny-vae", range(20), labels=3)
        its, *mine = (way.encode("tiny-vae", images) for way in (through, short, alone))
        for posterior in mine:
            assert posterior.mean.tobytes() == its.mean.tobytes()
            assert posterior.logvar.tobytes() == its.logvar.tobytes()
            assert (posterior.version, posterior.digest) == (its.version, its.digest)
        drawn = [way.model("tiny-vae").latents(range(20), 0.7) for way in (through, alone)]
        assert drawn[0].tobytes() == drawn[1].tobytes()


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("sample", {"seeds": 1, "truncation": 2.0}),
        ("sample", {"seeds": 1, "labels": 10}),
        ("sample", {"seeds": [1, 2, 3], "labels": [1, 2]}),
        ("sample_stream", {"seeds": range(2**40)}),
        ("decode", {"latents": [np.nan] * 16, "labels": 0}),
        ("decode", {"latents": [0.0] * 16}),
        ("decode", {"latents": [0.0] * 15, "labels": 0}),
        ("walk", {"seeds": [1]}),
        ("walk", {"seeds": [1, 2], "steps": 0}),
        ("encode", {"images": np.zeros((1, 32, 32, 1), np.uint8)}),
    ],
)
def test_all_ways_refuse_in_the_same_words(served: LocalServer, method: str, arguments: dict[str, Any]) -> None:
    messages = []
    ways = Sampler(served.service), Sampler(served.service, direct=False), Sampler.direct(served.triton_grpc)
    for way in ways:
        with way as sampler, pytest.raises(InvalidArgumentError) as caught:
            list(getattr(sampler, method)("tiny-gan", **arguments))
        messages.append(str(caught.value))
    assert len(set(messages)) == 1, messages
