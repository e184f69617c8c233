"""Python arguments become request fields."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganvas.v1 import sampler_pb2
from ganvas_client import AsyncSampler, InvalidArgumentError, Sampler, calls, latents
from ganvas_client.addresses import target_of
from ganvas_client.arguments import header_list, image_fields, label_list, latent_array, seed_fields, seed_list
from ganvas_client.errors import KEY_WANTED

SEED = st.integers(0, 2**64 - 1)


def sent(seeds: Any) -> list[int]:
    """The seeds in a request, as the service reads them."""
    listed, consecutive = seed_fields(seeds)
    if consecutive is None:
        return listed
    assert listed == []
    return list(range(consecutive.first, consecutive.first + consecutive.count))


@given(st.lists(SEED, max_size=20))
def test_seeds_arrive_as_given_from_any_kind_of_collection(seeds: list[int]) -> None:
    assert sent(seeds) == seeds
    assert sent(tuple(seeds)) == seeds
    assert sent(iter(seeds)) == seeds
    assert sent(np.array(seeds, np.uint64)) == seeds


@given(SEED, st.integers(0, 50))
def test_consecutive_seeds_travel_as_a_range(first: int, count: int) -> None:
    seeds = range(first, min(first + count, 2**64))
    expected = sampler_pb2.SeedRange(first=first, count=len(seeds)) if seeds else sampler_pb2.SeedRange()
    assert seed_fields(seeds) == ([], expected)
    if len(seeds) > 1:
        assert seed_fields(np.array(seeds, np.uint64)) == ([], expected)
        assert seed_fields(list(seeds)) == ([], expected)


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-3, 3).filter(bool))
def test_any_python_range_means_its_own_numbers(start: int, stop: int, step: int) -> None:
    seeds = range(1000 + start, 1000 + stop, step)
    assert sent(seeds) == list(seeds)


def test_one_seed_needs_no_list() -> None:
    assert seed_fields(2**64 - 1) == ([2**64 - 1], None)
    one: Any = np.uint64(2**63)
    assert seed_fields(one) == ([2**63], None)


def test_a_huge_range_is_sent_without_being_counted_out() -> None:
    assert seed_fields(range(2**62)) == ([], sampler_pb2.SeedRange(first=0, count=2**62))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (-1, r"seed must be within \[0, 2\^64\); got -1\."),
        ([0, 2**64], r"seed must be within \[0, 2\^64\); got 18446744073709551616\."),
        (range(-2, 2), r"seed must be within \[0, 2\^64\); got -2\."),
        (range(2**64 - 1, 2**64 + 1), r"seed must be within \[0, 2\^64\); got 18446744073709551616\."),
        (range(10, -10, -7), r"got -4\."),
        (range(2**64), r"number of seeds must be within \[0, 2\^63\); got 18446744073709551616\."),
        (np.array([3, -1]), r"got -1\."),
        (1.5, r"seed must be a whole number; got 1\.5\."),
        (np.array([1.0]), r"seed must be a whole number; got 1\.0\."),
        ("12", r"seed must be a whole number; got '12'\."),
        ([None], r"seed must be a whole number; got None\."),
    ],
)
def test_seeds_that_the_wire_cannot_carry_are_rejected(seeds: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        seed_fields(seeds)


def test_seeds_without_end_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganvas_client.arguments._MAX_ITERATED_SEEDS", 100)
    with pytest.raises(InvalidArgumentError, match="at most 100 in one call unless they are consecutive, a list or"):
        seed_list(itertools.count())
    assert len(seed_list([7] * 101)) == len(seed_list(np.full(101, 7))) == 101


def test_labels_are_indices_or_names_one_or_many() -> None:
    assert label_list(None) == []
    assert label_list(3) == [3]
    assert label_list("cat") == ["cat"]
    assert label_list(np.arange(3)) == [0, 1, 2]
    assert label_list(["cat", 2]) == ["cat", 2]


@pytest.mark.parametrize("label", [2**63, -(2**63) - 1, 0.5, b"cat"])
def test_labels_that_the_wire_cannot_carry_are_rejected(label: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="label must be"):
        label_list([label])


def test_latents_are_float32_of_any_shape() -> None:
    assert latent_array([0.5, 1]).tolist() == [0.5, 1.0]
    assert latent_array(np.zeros((3, 4))).shape == (3, 4)
    assert latent_array(np.zeros((3, 2, 4, 4))).dtype == np.float32
    assert latent_array([[1e300]]).tolist() == [[float("inf")]]


@pytest.mark.parametrize("latents", [3.0, [], [[]], "abc", [[1, 2], [3]], None])
def test_latents_of_another_shape_are_rejected(latents: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="latents must be"):
        latent_array(latents)


def image_file(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 3), 7).save(file, kind)
    return file.getvalue()


def test_pixels_travel_raw_from_arrays_and_pillow_images() -> None:
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    expected = [image.tobytes() for image in pixels]
    raw = sampler_pb2.FORMAT_RAW
    assert image_fields(pixels) == (expected, raw, [2, 3, 4, 3])
    assert image_fields(list(pixels)) == (expected, raw, [2, 3, 4, 3])
    assert image_fields(pixels[0]) == (expected[:1], raw, [1, 3, 4, 3])
    assert image_fields(pixels[:, ::-1])[0] == [np.ascontiguousarray(image[::-1]).tobytes() for image in pixels]
    assert image_fields([Image.fromarray(image) for image in pixels]) == (expected, raw, [2, 3, 4, 3])
    assert image_fields(Image.fromarray(pixels[1])) == (expected[1:], raw, [1, 3, 4, 3])
    assert image_fields(pixels[0, :, :, 0])[2] == [1, 3, 4, 1]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_files_are_recognised_by_how_they_begin(kind: str) -> None:
    file = image_file(kind)
    expected = sampler_pb2.Format.Value(f"FORMAT_{kind.upper()}")
    assert image_fields(file) == ([file], expected, [])
    assert image_fields([file, file]) == ([file, file], expected, [])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 8, 8, 1), np.float32), r"must be uint8, .*; got an image of float32 \[8, 8, 1\]"),
        (np.zeros((1, 3, 8, 8), np.uint8), r"\[N,H,W,C\] or \[H,W,C\]; got an image of uint8 \[3, 8, 8\]"),
        (np.zeros(8, np.uint8), r"got an image of uint8 \[8\]"),
        (b"GIF89a....", r"must be files of png, jpeg, .*; got 10 bytes that begin b'GIF89a\.\.'"),
        ([b""], r"got 0 bytes"),
        (
            [np.zeros((4, 2, 1), np.uint8), np.zeros((2, 4, 1), np.uint8)],
            r"must be of one shape in one call; got \[2, 4, 1\] and \[4, 2, 1\]\.",
        ),
        (Image.new("P", (4, 4)), r"mode L, RGB or RGBA; got a Pillow image of mode 'P'"),
    ],
)
def test_images_that_the_wire_cannot_carry_are_rejected(images: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        image_fields(images)


def test_images_of_mixed_kinds_are_rejected() -> None:
    with pytest.raises(InvalidArgumentError, match="one kind in one call; got png and raw"):
        image_fields([image_file("png"), np.zeros((4, 4, 1), np.uint8)])


def test_an_unknown_format_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgumentError, match=r"format must be one of raw, png, jpeg, .*; got 'gif'"):
        calls.sample("m", 1, format="gif")  # type: ignore[arg-type]


def test_request_leaves_out_what_was_not_given() -> None:
    request = calls.sample("m", 1).request
    assert not request.HasField("truncation")
    assert not request.labels
    assert request.version == ""
    assert calls.sample("m", 1, truncation=0.0, version=3).request.HasField("truncation")
    assert calls.sample("m", 1, version=3).request.version == "3"


def test_label_names_become_indices_once_the_model_is_known() -> None:
    call = calls.sample("m", range(3), labels=["cat", 0, "dog"])
    assert not call.request.labels
    assert calls.lookup(call).request.model == "m"
    info = model_info(labels=("dog", "cat"))
    calls.fill_labels(call, info)
    assert list(call.request.labels) == [1, 0, 0]
    with pytest.raises(InvalidArgumentError, match=r"label must be one of those of model 'm' \(dog, cat\); got 'cow'"):
        calls.fill_labels(calls.sample("m", 1, labels="cow"), info)
    with pytest.raises(InvalidArgumentError, match=r"\(none: it is unconditional\); got 'cow'"):
        calls.fill_labels(calls.sample("m", 1, labels="cow"), model_info(labels=()))


def model_info(labels: tuple[str, ...]) -> Any:
    reply = sampler_pb2.GetModelResponse(model=sampler_pb2.Model(name="m", version="1", labels=labels))
    return calls.model("m").parse(reply, "id")


def test_decode_sends_the_shape_of_the_latents() -> None:
    request = calls.decode("m", np.zeros((3, 4, 2))).request
    assert (list(request.shape), len(request.latents)) == ([3, 4, 2], 24)


@pytest.mark.parametrize("make", [Sampler, AsyncSampler, Sampler.direct])
@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:0", "http://127.0.0.1:21000", "", ":1", "::1:50051"),
        *("[::1]", "[nobody]:1", "a b:1", "127.0.0.1:50051/"),
        *(None, 5, b"127.0.0.1:1", ["127.0.0.1:1", ""], [None], ["http://a:1", "b:1"]),
    ],
)
def test_malformed_address_is_refused_before_anything_is_asked(make: Any, address: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^address must be HOST:PORT(, or a list of them)?; got "):
        make(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1:1", "localhost:65535", "a-b_c.internal:50051", "[::1]:1", "[fe80::1%lo]:1", "unix:/tmp/socket"),
        *("unix:///tmp/socket", "dns:///localhost:1", "dns:localhost:1", "ipv4:127.0.0.1:1,127.0.0.1:2"),
    ],
)
def test_what_grpc_can_connect_to_is_an_address(address: str) -> None:
    assert target_of(address) == (address, [])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (0, "must be positive; got 0."),
        (-1, "must be positive; got -1."),
        (float("nan"), "must be positive; got nan."),
        (float("inf"), "must be at most 1e+09; got inf. None is without limit."),
        ("5", "must be a number of seconds; got '5'."),
        (True, "must be a number of seconds; got True."),
    ],
)
def test_wrong_times_are_refused_in_the_same_words_everywhere(value: Any, problem: str) -> None:
    made: list[Any] = [
        lambda: calls.sample("m", 1, timeout_s=value),
        lambda: calls.sample_stream("m", 1, timeout_s=value),
        lambda: calls.decode("m", [1.0], timeout_s=value),
        lambda: calls.encode("m", b"\x89PNG\r\n\x1a\n", timeout_s=value),
        lambda: calls.walk("m", [1, 2], timeout_s=value),
        lambda: calls.model("m", timeout_s=value),
        lambda: calls.models(timeout_s=value),
    ]
    for make in made:
        with pytest.raises(InvalidArgumentError) as caught:
            make()
        assert str(caught.value) == f"timeout_s {problem}"
    with pytest.raises(InvalidArgumentError, match="^hedge_after_s " + re.escape(problem)):
        Sampler(hedge_after_s=value)
    assert calls.sample("m", 1, timeout_s=None).timeout_s is None


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: calls.sample("m", "12"), "seed must be a whole number; got '12'."),  # type: ignore[arg-type]
        (lambda: calls.sample("m", True), "seed must be a whole number; got True."),
        (lambda: calls.sample("m", np.zeros((2, 3), int)), "seeds must be one or a row of them; got an array of shape"),
        (lambda: calls.sample("m", 1, labels=True), "label must be a whole number; got True."),
        (lambda: calls.sample("m", 1, labels=np.array([[1]])), "label must be a whole number; got [1]."),
        (lambda: calls.sample("m", 1, truncation="0.5"), "truncation must be a number; got '0.5'."),  # type: ignore[arg-type]
        (lambda: calls.sample("m", 1, progress=True), "progress must be a function of (done, total); got True."),  # type: ignore[arg-type]
        (lambda: calls.sample(5, 1), "model must be text; got 5."),  # type: ignore[arg-type]
        (lambda: calls.sample("\ud800", 1), "model must be text; got '\\ud800'."),
        (lambda: calls.sample("m", 1, version="\ud800"), "version must be text; got '\\ud800'."),
        (lambda: calls.sample("m", 1, digest=5), "digest must be text; got 5."),  # type: ignore[arg-type]
        (lambda: calls.walk("m", [1, 2], loop="yes"), "loop must be True or False; got 'yes'."),  # type: ignore[arg-type]
        (lambda: calls.encode("m", None), "images must be one image or several; got None."),  # type: ignore[arg-type]
        (lambda: Sampler(credentials="x"), "credentials must be grpc.ssl_channel_credentials(…), or None"),  # type: ignore[arg-type]
        (lambda: Sampler(metadata=[]), "metadata must be a function that gives headers; got []."),  # type: ignore[arg-type]
        (lambda: Sampler(wait_for_ready="no"), "wait_for_ready must be True or False; got 'no'."),  # type: ignore[arg-type]
        (lambda: Sampler(direct=0), "direct must be True or False; got 0."),  # type: ignore[arg-type]
        (lambda: calls.sample("m", []), "seeds must hold at least one; got none."),
        (lambda: calls.sample("m", range(5, 5)), "seeds must hold at least one; got none."),
        (
            lambda: calls.decode("m", np.zeros(4, complex)),
            "latents must be numbers [N, *latent_shape]: they are complex.",
        ),
        (lambda: calls.encode("m", "a.png"), "images must be a file's bytes, not its name; got 'a.png'."),  # type: ignore[arg-type]
        (lambda: calls.encode("m", Path("a")), "images must be a file's bytes, not its name; got PosixPath('a')."),  # type: ignore[arg-type]
        (lambda: Sampler(api_key=5), "api_key must be printable ASCII without spaces."),  # type: ignore[arg-type]
    ],
)
def test_arguments_of_the_wrong_type_are_named(make: Any, problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match="^" + re.escape(problem)):
        make()


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        (5, "metadata must give pairs of name and value; got 5."),
        ({"traceparent": "00"}, "metadata must give pairs of name and value; got {'traceparent': '00'}."),
        ([("Trace", "00")], "metadata must have names of a-z, 0-9, '-', '_' and '.'; got 'Trace'."),
        ([("trace", 7)], "metadata 'trace' must be text of printable ASCII; got 7."),
        ([("trace", "a\nb")], "metadata 'trace' must be text of printable ASCII; got 'a\\nb'."),
        ([("trace-bin", "00")], "metadata 'trace-bin' must be bytes, as -bin says; got '00'."),
    ],
)
def test_metadata_that_grpc_cannot_send_is_named(pairs: Any, problem: str) -> None:
    with (
        Sampler("127.0.0.1:1", metadata=lambda: pairs) as sampler,
        pytest.raises(InvalidArgumentError, match="^" + re.escape(problem)),
    ):
        sampler.sample("m", 1)


def test_metadata_of_text_and_bytes_is_sent_as_it_is() -> None:
    pairs: list[tuple[str, str | bytes]] = [("a.b_c-1", ""), ("trace-bin", b"\xff")]
    assert header_list(iter(pairs)) == pairs


@pytest.mark.parametrize("hand_over", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", [Sampler, AsyncSampler])
def test_a_client_cannot_be_handed_over(kind: type, hand_over: Any) -> None:
    with pytest.raises(TypeError, match=f"^a {kind.__name__} cannot be pickled or copied: it is a connection"):
        hand_over(kind("127.0.0.1:1"))


def test_arrays_without_axes_are_one_value() -> None:
    call = calls.sample("m", np.array(7), labels=np.array(3))
    assert (list(call.request.seeds), list(call.request.labels)) == ([7], [3])


def test_latents_take_one_seed_as_sample_does() -> None:
    assert np.array_equal(latents(5, 3), latents([5], 3))
    for seed, problem in ((-1, "must be within [0, 2^64); got -1."), ("1", "must be a whole number; got '1'.")):
        with pytest.raises(ValueError, match="^seed " + re.escape(problem)):
            latents(seed, 3)  # type: ignore[arg-type]


def test_key_that_is_refused_is_named_as_python_calls_it() -> None:
    assert KEY_WANTED[0] in Path("serving/gateway/lua/access.lua").read_text(encoding="utf-8")
