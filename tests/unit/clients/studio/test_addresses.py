"""Addresses: from a path and a query to what they name, and back to the one permanent address."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.studio import addresses
from clients.studio.addresses import LatentImage, Query, Reference, SeedImage
from ganvas_client import InvalidArgumentError, Limits, ModelInfo, NotFoundError

DIGEST = "0123456789abcdef" * 4
MODEL = ModelInfo(
    name="digits",
    version="1",
    versions=("1",),
    digest=DIGEST,
    family="gan",
    height=8,
    width=8,
    channels=1,
    latent_shape=(2, 3),
    labels=("zero", "one", "0"),
    can_encode=False,
    precision="fp32",
    limits=Limits(truncation_max=1.5, max_count=256, max_stream_count=1000, max_batch_size=32),
    golden="exact",
    certificate_json="",
)
PINNED = Reference(name="digits", digest=DIGEST)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.floats(0, 1.5, width=32), st.none() | st.integers(0, 9))
def test_address_of_a_seed_is_read_back_as_the_same_image(seed: int, truncation: float, label: int | None) -> None:
    image = SeedImage(reference=PINNED, seed=seed, truncation=np.float32(truncation), label=label, format="png")
    path, _, query = image.address.partition("?")
    *_, reference, _, name = path.split("/")
    assert addresses.parse_reference(reference) == PINNED
    assert addresses.parse_seed(name.removesuffix(".png")) == seed
    fields = Query([(key, value) for key, _, value in (part.partition("=") for part in query.split("&") if part)])
    assert fields.text("label") == (None if label is None else str(label))
    assert fields.truncation() == np.float32(truncation)
    fields.end()


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=6, max_size=6))
def test_address_of_a_latent_holds_every_bit_of_it(values: list[float]) -> None:
    latent = np.array(values, "<f4").tobytes()
    image = LatentImage(reference=PINNED, latent=latent, label=None, format="webp")
    assert addresses.parse_latent(image.address.rpartition("/")[2].removesuffix(".webp"), MODEL) == latent


@pytest.mark.parametrize("text", ["-1", "1e3", "18446744073709551616", "٣", "", "1" * 21, "0x1"])
def test_seed_outside_64_bits_is_an_error_that_says_the_limit(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"seed must be a whole number within \[0, 2\^64\)"):
        addresses.parse_seed(text)


@pytest.mark.parametrize("name", ["..", "a/b", "UP", "", "digits-decode", "<b>", "a" * 64])
def test_reference_that_no_model_can_have_is_not_found(name: str) -> None:
    with pytest.raises(NotFoundError):
        addresses.parse_reference(name)


def test_reference_takes_a_whole_digest_alone() -> None:
    with pytest.raises(InvalidArgumentError, match="64 of 0-9 and a-f"):
        addresses.parse_reference("digits@0123")


def test_label_by_name_wins_over_its_index() -> None:
    assert addresses.parse_label("0", MODEL) == 2
    assert addresses.parse_label("1", MODEL) == 1
    with pytest.raises(InvalidArgumentError, match="zero, one, 0"):
        addresses.parse_label("three", MODEL)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "png"),
        ("*/*", "png"),
        ("image/webp,*/*;q=0.8", "webp"),
        ("image/jpeg;q=0.9, image/png;q=0.2", "jpeg"),
        ("image/*", "png"),
        ("text/html", "png"),
    ],
)
def test_format_without_an_ending_is_what_accept_likes_best(accept: str | None, expected: str) -> None:
    assert addresses.file_format("", accept) == expected


def test_query_says_which_fields_there_are() -> None:
    query = Query([("label", "1"), ("truncaton", "1")])
    query.text("label")
    query.truncation()
    with pytest.raises(InvalidArgumentError, match="unknown field 'truncaton'; there are label, truncation"):
        query.end()
    with pytest.raises(InvalidArgumentError, match="twice"):
        Query([("label", "1"), ("label", "2")])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e40", "x", ""])
def test_truncation_that_is_no_finite_number_is_an_error(value: str) -> None:
    with pytest.raises(InvalidArgumentError, match="truncation must be a finite number"):
        Query([("truncation", value)]).truncation()


@pytest.mark.parametrize(
    "latent", ["AAAA", "!" * 32, base64.urlsafe_b64encode(np.full(6, np.nan, "<f4").tobytes()).decode()]
)
def test_latent_of_another_length_or_not_finite_is_an_error(latent: str) -> None:
    with pytest.raises(InvalidArgumentError, match="latent must"):
        addresses.parse_latent(latent, MODEL)


def test_entity_tags_differ_where_addresses_do() -> None:
    assert addresses.entity_tag("/a") != addresses.entity_tag("/b")
    assert addresses.entity_tag("/a").startswith('"')
