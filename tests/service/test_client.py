"""The client library against our service: every method gives the same images, and failures become exceptions."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganvas_client import (
    AsyncSampler,
    CallCancelledError,
    Certificate,
    Format,
    GanvasError,
    InvalidArgumentError,
    NotFoundError,
    Sampler,
    latents,
)
from serving.repository.reader import Repository
from tests.support.service import LoopThread, Service

SEEDS = [0, 1, 2**63, 2**64 - 1, 77]


@pytest.fixture
def sampler(shared_service: Service) -> Iterator[Sampler]:
    with Sampler(shared_service.address) as sampler:
        yield sampler


def bare(
    repository: Repository, name: str, seeds: list[int], truncation: float, labels: list[int]
) -> NDArray[np.uint8]:
    """[N,H,W,C]: bare ONNX Runtime, one image a call."""
    path = repository.newest(name).folder / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = []
    for seed, label in zip(seeds, labels, strict=True):
        feeds = {
            "seed": np.array([[seed]], np.uint64),
            "truncation": np.array([[truncation]], np.float32),
            "label": np.array([[label]], np.int64),
        }
        images.append(session.run(None, {entry.name: feeds[entry.name] for entry in session.get_inputs()})[0][0])
    return np.stack(images)


@pytest.mark.parametrize("seeds", [SEEDS, np.array(SEEDS, np.uint64), iter(SEEDS)])
def test_sample_gives_the_bytes_of_bare_onnxruntime(sampler: Sampler, repository: Repository, seeds: Any) -> None:
    images = sampler.sample("tiny-gan", seeds, truncation=0.75)
    labels = [seed % 10 for seed in SEEDS]
    assert np.array_equal(images.array, bare(repository, "tiny-gan", SEEDS, 0.75, labels))
    assert images.seeds is not None
    assert images.seeds.tolist() == SEEDS
    assert images.labels is not None
    assert images.labels.tolist() == labels
    assert images.info.digest == repository.newest("tiny-gan").digest
    assert images.timing.total_us >= images.timing.inference_us > 0


def test_unconditional_model_has_images_without_labels(sampler: Sampler, repository: Repository) -> None:
    images = sampler.sample("plain-gan", range(3))
    assert images.labels is None
    assert np.array_equal(images.array, bare(repository, "plain-gan", [0, 1, 2], 1.0, [0, 0, 0]))


@pytest.mark.parametrize("model", ["tiny-gan", "plain-gan"])
def test_lossless_formats_give_the_raw_pixels(sampler: Sampler, model: str) -> None:
    raw = sampler.sample(model, range(4))
    formats: tuple[Format, ...] = ("png", "webp")
    for name in formats:
        files = sampler.sample(model, range(4), format=name)
        assert files.info.format == name
        assert np.array_equal(files.array, raw.array)
    assert [image.size for image in sampler.sample(model, 5, format="jpeg").pil()] == [raw.array.shape[2:0:-1]]


def test_stream_gives_every_image_once_with_its_place(sampler: Sampler) -> None:
    seeds = list(range(1000, 1100)) + SEEDS
    streamed = {image.index: image for image in sampler.sample_stream("tiny-gan", seeds, labels=4)}
    whole = sampler.sample("tiny-gan", seeds, labels=4)
    assert [streamed[i].bytes for i in range(len(seeds))] == whole.bytes
    assert [streamed[i].seed for i in range(len(seeds))] == seeds


def test_async_sampler_gives_what_sampler_gives(
    sampler: Sampler, shared_service: Service, loop_thread: LoopThread
) -> None:
    async def everything() -> list[Any]:
        async with AsyncSampler(shared_service.address) as client:
            images = await client.sample("tiny-vae", SEEDS, labels="3")
            posterior = await client.encode("tiny-vae", images)
            return [
                images.array,
                [image.bytes async for image in client.walk("tiny-gan", [1, 2], steps=4)],
                sorted([image.index async for image in client.sample_stream("tiny-gan", range(40))]),
                (await client.decode("tiny-vae", posterior.mean, labels=3)).bytes,
                await client.models(),
                (await client.model("tiny-vae")).certificate(),
            ]

    images = sampler.sample("tiny-vae", SEEDS, labels="3")
    posterior = sampler.encode("tiny-vae", images)
    expected = [
        images.array,
        [image.bytes for image in sampler.walk("tiny-gan", [1, 2], steps=4)],
        list(range(40)),
        sampler.decode("tiny-vae", posterior.mean, labels=3).bytes,
        sampler.models(),
        sampler.model("tiny-vae").certificate(),
    ]
    for one, other in zip(expected, loop_thread.run(everything()), strict=True):
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def test_decode_of_numpys_latents_gives_the_images_of_their_seeds(sampler: Sampler) -> None:
    truncation = np.float32(0.7)
    sampled = sampler.sample("tiny-gan", SEEDS, truncation=0.7, labels=[3, 1, 4, 1, 5])
    decoded = sampler.decode("tiny-gan", latents(SEEDS, 16) * truncation, labels=[3, 1, 4, 1, 5])
    assert decoded.bytes == sampled.bytes
    assert decoded.seeds is None


def test_latents_of_another_width_are_an_error_even_if_their_number_fits(sampler: Sampler) -> None:
    with pytest.raises(InvalidArgumentError, match=r"shape of latents must be \[4, 16\]; got \[4, 8\]"):
        sampler.decode("tiny-gan", np.zeros((4, 8)), labels=0)
    with pytest.raises(InvalidArgumentError, match="latents must hold a multiple of 16"):
        sampler.decode("tiny-gan", np.zeros((1, 15)), labels=0)


def test_encode_takes_the_same_images_in_every_form(sampler: Sampler) -> None:
    images = sampler.sample("tiny-vae", range(3))
    files = sampler.sample("tiny-vae", range(3), format="png")
    expected = sampler.encode("tiny-vae", images.array)
    assert expected.mean.shape == expected.logvar.shape == (3, 8)
    for form in (images, files, files.bytes, images.pil(), list(images.array)):
        posterior = sampler.encode("tiny-vae", form)
        assert np.array_equal(posterior.mean, expected.mean)
        assert np.array_equal(posterior.logvar, expected.logvar)
    one = io.BytesIO()
    Image.fromarray(images.array[1, :, :, 0]).save(one, "WEBP", lossless=True)
    assert np.array_equal(sampler.encode("tiny-vae", one.getvalue()).mean, expected.mean[1:2])


def test_walk_passes_through_its_seeds_and_back(sampler: Sampler) -> None:
    frames = list(sampler.walk("tiny-gan", [5, 6, 7], steps=10, label=2))
    assert [frame.index for frame in frames] == list(range(21))
    stops = sampler.sample("tiny-gan", [5, 6, 7], labels=2)
    assert [frames[i].bytes for i in (0, 10, 20)] == stops.bytes
    assert len(list(sampler.walk("tiny-gan", [5, 6, 7], steps=10, loop=True))) == 30


def test_models_are_described_with_limits_and_certificate(sampler: Sampler, repository: Repository) -> None:
    models = {info.name: info for info in sampler.models()}
    assert set(models) == {"tiny-gan", "tiny-vae", "plain-gan"}
    assert models["tiny-vae"].can_encode
    assert models["plain-gan"].labels == ()
    info = sampler.model("tiny-gan", version=1)
    assert info.golden == "exact"
    assert info.limits.max_stream_count >= info.limits.max_count >= info.limits.max_batch_size > 1
    assert info.certificate() == repository.newest("tiny-gan").certificate
    assert isinstance(info.certificate(), Certificate)
    assert info.certificate().files["model.onnx"].sha256 == info.digest


@pytest.mark.parametrize("version", [1, "1", None])
def test_version_may_be_given_or_left_out(sampler: Sampler, version: int | str | None) -> None:
    assert sampler.sample("tiny-gan", 0, version=version).info.version == "1"


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda s: s.sample("nope", 0), NotFoundError, "there is: plain-gan, tiny-gan, tiny-vae"),
        (lambda s: s.sample("tiny-gan", 0, version=9), NotFoundError, "has no version 9; there is: 1"),
        (lambda s: s.sample("tiny-gan", []), InvalidArgumentError, r"^seeds must hold at least one; got none\."),
        (lambda s: s.sample("tiny-gan", range(10**12)), InvalidArgumentError, r"memory; got 1000000000000\."),
        (lambda s: s.sample("tiny-gan", 0, truncation=float("nan")), InvalidArgumentError, r"\[0, 1\.5\]; got nan"),
        (lambda s: s.sample("tiny-gan", 0, labels=10), InvalidArgumentError, r"within \[0, 9\]; got 10"),
        (lambda s: s.sample("tiny-gan", 0, labels="ten"), InvalidArgumentError, r"label must be .* got 'ten'"),
        (lambda s: s.sample("tiny-gan", -1), InvalidArgumentError, r"seed must be within \[0, 2\^64\); got -1"),
        (lambda s: s.encode("tiny-gan", np.zeros((1, 32, 32, 1), np.uint8)), InvalidArgumentError, "cannot encode"),
        (lambda s: s.encode("tiny-vae", np.zeros((1, 31, 32, 1), np.uint8)), InvalidArgumentError, r"\[1, 31, 32, 1\]"),
        (lambda s: s.decode("tiny-gan", [np.nan] * 16, labels=0), InvalidArgumentError, "must be finite"),
        (lambda s: next(s.walk("tiny-gan", [1])), InvalidArgumentError, "2 seeds or more"),
        (lambda s: next(s.sample_stream("nope", 1)), NotFoundError, "nope"),
    ],
)
def test_bad_input_is_one_exception_and_the_connection_goes_on(
    sampler: Sampler, ask: Callable[[Sampler], Any], kind: type[GanvasError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ask(sampler)
    assert len(sampler.sample("tiny-gan", range(2))) == 2


def test_one_sampler_serves_many_threads(sampler: Sampler) -> None:
    def one(seed: int) -> bytes:
        return sampler.sample("tiny-gan", seed).bytes[0]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(64))) == sampler.sample("tiny-gan", range(64)).bytes


def test_closing_an_async_sampler_tells_the_task_that_waits(shared_service: Service) -> None:
    async def run(stop: str) -> None:
        async with asyncio.timeout(60), AsyncSampler(shared_service.address) as sampler:
            images = sampler.sample_stream("tiny-gan", range(60_000), format="png")
            await anext(images)
            waiting = asyncio.create_task(_rest(images))
            await asyncio.sleep(0.02)
            if stop == "close":
                await sampler.close()
            else:
                waiting.cancel()
            await waiting

    with pytest.raises(CallCancelledError, match="was closed before the call was done"):
        asyncio.run(run("close"))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run("cancel"))


async def _rest(images: AsyncIterator[object]) -> int:
    return len([image async for image in images])


def test_an_async_sampler_stays_in_the_loop_of_its_first_call(shared_service: Service) -> None:
    sampler = AsyncSampler(shared_service.address)

    async def sample() -> int:
        return len(await sampler.sample("tiny-gan", [1, 2]))

    assert asyncio.run(sample()) == 2
    with pytest.raises(RuntimeError, match=r"belongs to another event loop, that of its first call\. Make one in each"):
        asyncio.run(sample())
