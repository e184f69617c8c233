"""How many images a request asks for, as its metadata says it."""

from __future__ import annotations

from typing import Any

import pytest

from ganvas.v1 import sampler_pb2 as pb
from ganvas_client.streams import work


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (pb.SampleRequest(model="m", seeds=[5, 6, 7]), "m/3"),
        (pb.SampleRequest(model="m", version="2", range=pb.SeedRange(first=9, count=40)), "m/2/40"),
        (pb.DecodeRequest(model="m", latents=[0.0] * 8, shape=[4, 2]), "m/4"),
        (pb.DecodeRequest(model="m", latents=[0.0] * 64, shape=[64]), "m/1"),
        (pb.EncodeRequest(model="m", images=[b"1", b"2"]), "m/2"),
        (pb.WalkRequest(model="m", seeds=[1, 2, 3], steps=10), "m/21"),
        (pb.WalkRequest(model="m", seeds=[1, 2, 3], steps=10, loop=True), "m/30"),
        (pb.WalkRequest(model="m", seeds=[1, 2, 3], steps=10, first_frame=20), "m/1"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_work_counts_the_images(request_: Any, said: str) -> None:
    assert [value for _, value in work(request_)] == [said]


@pytest.mark.parametrize("request_", [pb.SampleRequest(model="m"), pb.DecodeRequest(model="m"), pb.ListModelsRequest()])
def test_what_computes_nothing_says_nothing(request_: Any) -> None:
    assert work(request_) == ()
