"""Every request becomes a plan within the limits, or an error that names a field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.requests.errors import InvalidFieldError
from ganvas_core.requests.validate import parse_decode, parse_sample, parse_walk
from serving.options import ServeOptions
from serving.service.errors import NotFoundError
from serving.service.inference.catalog import Catalog, ServedModel
from tests.support.certificates import served_model

LIMITS = ServeOptions(max_count=6, max_stream_count=20)
CATALOG = Catalog(
    [
        served_model("pets", version=2, options=LIMITS),
        served_model("pets", version=10, options=LIMITS),
        served_model("plain", options=LIMITS, labels=()),
    ]
)


def find(request: Any) -> ServedModel:
    return CATALOG.find(request.model, request.version, request.digest)


INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
SMALL = st.integers(-2, 25)
COMMON: dict[str, Any] = {
    "model": st.sampled_from(["pets", "plain"]) | st.text(max_size=8),
    "version": st.sampled_from(["", "2", "10", "3"]) | st.text(max_size=4),
    "format": st.integers(-1, 6),
    "labels": st.lists(st.integers(0, 2) | INT64, max_size=7),
}
TRUNCATION = st.none() | st.floats(0, 1.5, width=32) | st.floats(width=32)

samples = st.builds(
    pb.SampleRequest,
    seeds=st.lists(UINT64, max_size=22),
    range=st.none() | st.builds(pb.SeedRange, first=UINT64, count=SMALL | INT64),
    truncation=TRUNCATION,
    **COMMON,
)
decodes = st.builds(
    pb.DecodeRequest,
    latents=st.integers(0, 40).flatmap(lambda n: st.lists(st.floats(width=32), min_size=n, max_size=n)),
    **COMMON,
)
walks = st.builds(
    pb.WalkRequest,
    seeds=st.lists(UINT64, max_size=5),
    steps=SMALL | INT64,
    loop=st.booleans(),
    truncation=TRUNCATION,
    **COMMON,
)


def check_rejection(error: Exception) -> None:
    message = str(error)
    assert len(message) < 300
    assert message.isprintable()


@given(request=samples, stream=st.booleans())
def test_any_sample_request_is_planned_or_rejected(request: pb.SampleRequest, stream: bool) -> None:
    try:
        plan = parse_sample(request, find(request), stream=stream)
    except (InvalidFieldError, NotFoundError) as error:
        check_rejection(error)
        return
    assert 1 <= plan.count <= (20 if stream else 6)
    assert 0 <= plan.truncation <= 1.5
    inputs = plan.inputs(0, plan.count)
    assert ("label" in inputs) == (plan.model.name != "plain")
    assert inputs["seed"].shape == inputs["truncation"].shape == (plan.count, 1)
    assert inputs["seed"].dtype == np.uint64
    if "label" in inputs:
        assert plan.label_of(0) == inputs["label"][0]
        assert ((inputs["label"] >= 0) & (inputs["label"] < 3)).all()


@given(request=decodes)
def test_any_decode_request_is_planned_or_rejected(request: pb.DecodeRequest) -> None:
    try:
        plan = parse_decode(request, find(request))
    except (InvalidFieldError, NotFoundError) as error:
        check_rejection(error)
        return
    assert plan.latents.shape == (len(request.latents) // 5, 5)
    assert np.isfinite(plan.latents).all()
    assert 1 <= plan.count <= 6


@given(request=walks)
def test_any_walk_request_is_planned_or_rejected(request: pb.WalkRequest) -> None:
    try:
        plan = parse_walk(request, find(request))
    except (InvalidFieldError, NotFoundError) as error:
        check_rejection(error)
        return
    assert 2 <= plan.count <= 20
    assert plan.inputs(0, plan.count)["latent"].shape == (plan.count, 5)
    assert {plan.seed_of(index) for index in range(plan.count)} <= set(request.seeds)


def test_large_images_lower_the_count_to_what_a_message_holds() -> None:
    model = served_model(height=4096, width=4096, channels=3, max_batch_size=16)
    assert model.max_count == 1
    assert model.batch_size == 1
    request = pb.SampleRequest(model="pets", range=pb.SeedRange(count=2))
    with pytest.raises(InvalidFieldError, match=r"within \[1, 1\] seeds; got 2. Use SampleStream"):
        parse_sample(request, model, stream=False)


def test_more_images_than_a_stream_may_have_are_not_sent_to_a_stream() -> None:
    request = pb.SampleRequest(model="pets", range=pb.SeedRange(count=10**12))
    with pytest.raises(InvalidFieldError, match=r"within \[1, 6\] seeds; got 1000000000000\. Split the request\.$"):
        parse_sample(request, CATALOG.find("pets", ""), stream=False)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [([2, 10], "[2, 5]"), ([2, 2, 5], "[N, 5]")],
)
def test_shape_of_latents_is_corrected_by_its_own_first_axis(shape: list[int], expected: str) -> None:
    request = pb.DecodeRequest(model="plain", latents=[0.0] * 20, shape=shape)
    with pytest.raises(InvalidFieldError) as caught:
        parse_decode(request, CATALOG.find("plain", ""))
    assert str(caught.value) == f"shape of latents must be {expected}; got {shape}."


def test_many_labels_are_listed_in_part() -> None:
    model = served_model(labels=tuple(f"class {i}" for i in range(1000)))
    with pytest.raises(InvalidFieldError) as caught:
        parse_sample(pb.SampleRequest(model="pets", seeds=[1], labels=[1000]), model, stream=False)
    assert "0 (class 0), 1 (class 1)" in str(caught.value)
    assert "and 980 more" in str(caught.value)
