"""The client's three ways give the same: Triton alone, Triton through the gateway, and the sampling service."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clients.local_server import LocalServer
from ganvas_client import InvalidArgumentError, Sampler
from tests.service.test_client_readme import example
from tests.support.agreement import METHODS, check

pytestmark = [pytest.mark.triton, pytest.mark.slow]

NUM_REQUESTS = 120


def test_all_ways_give_the_same(served: LocalServer) -> None:
    kinds = check(served, NUM_REQUESTS, seed=11)
    assert set(METHODS) < set(kinds)
    assert sum(count for kind, count in kinds.items() if kind.endswith("Error")) > NUM_REQUESTS / 10


def test_latents_of_a_model_are_known_without_a_service(served: LocalServer) -> None:
    with Sampler(served.service) as short, Sampler.direct(served.triton_grpc) as alone:
        drawn = [way.model("tiny-vae").latents(range(20), 0.7) for way in (short, alone)]
        assert drawn[0].tobytes() == drawn[1].tobytes()
        decoded = alone.decode("tiny-vae", drawn[0], labels=[seed % 10 for seed in range(20)])
        assert decoded.bytes == short.sample("tiny-vae", range(20), truncation=0.7).bytes


def test_example_of_the_readme_runs(served: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(example(2, served.triton_grpc), "README.md", "exec"), names)
    assert capsys.readouterr().out.splitlines()[-1] == "1000 of 1000"
    assert names["posterior"].mean.shape == (1000, 8)
    assert len(names["frames"]) == 33


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("sample", {"seeds": 1, "truncation": 2.0}),
        ("sample", {"seeds": 1, "labels": 10}),
        ("sample", {"seeds": [1, 2, 3], "labels": [1, 2]}),
        ("sample", {"seeds": range(2**40)}),
        ("decode", {"latents": [np.nan] * 16, "labels": 0}),
        ("decode", {"latents": [0.0] * 16}),
        ("decode", {"latents": [0.0] * 15, "labels": 0}),
        ("sample_stream", {"seeds": []}),
        ("walk", {"seeds": []}),
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
