"""Every RPC and format gives the same bytes as the exported files in bare ONNX Runtime."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.certificate import Certificate
from ganvas_core.noise import latents, truncated_latents
from serving.repository.reader import Repository
from tests.support.service import Service, sample_request

SEEDS = [0, 1, 7, 2**32, 2**63 + 5, 2**64 - 1]


def bare(repository: Repository, model: str, outputs: list[str], **inputs: NDArray[Any]) -> list[NDArray[Any]]:
    """The exported file run in bare ONNX Runtime, one row at a time."""
    path = repository.folder / model / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = len(next(iter(inputs.values())))
    singly = [session.run(outputs, {k: v[i : i + 1] for k, v in inputs.items()}) for i in range(rows)]
    return [np.concatenate(column) for column in zip(*singly, strict=True)]


def bare_samples(
    repository: Repository, model: str, seeds: list[int], truncation: float, labels: list[int] | None
) -> list[bytes]:
    inputs: dict[str, NDArray[Any]] = {
        "seed": np.array(seeds, np.uint64)[:, None],
        "truncation": np.full((len(seeds), 1), truncation, np.float32),
    }
    if labels is not None:
        inputs["label"] = np.array(labels, np.int64)[:, None]
    (images,) = bare(repository, model, ["image"], **inputs)
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("model", ["tiny-gan", "tiny-vae", "plain-gan"])
def test_sample_gives_the_bytes_of_the_exported_file(
    shared_service: Service, repository: Repository, model: str
) -> None:
    labels = None if model == "plain-gan" else [9, 0, 3, 3, 1, 5]
    request = pb.SampleRequest(model=model, seeds=SEEDS, truncation=0.7, labels=labels)
    reply = shared_service.stub.Sample(request)
    assert [image.data for image in reply.images] == bare_samples(repository, model, SEEDS, 0.7, labels)
    assert [image.seed for image in reply.images] == SEEDS
    assert [image.index for image in reply.images] == list(range(6))
    digest = repository.find(model).digest
    assert (reply.info.model, reply.info.version, reply.info.digest) == (model, "1", digest)
    assert reply.info.format == pb.FORMAT_RAW
    assert reply.info.truncation == np.float32(0.7)
    assert reply.timing.total_us >= reply.timing.inference_us > 0


def test_sample_labels_images_by_seed_when_none_are_given(shared_service: Service, repository: Repository) -> None:
    reply = shared_service.stub.Sample(pb.SampleRequest(model="tiny-gan", seeds=SEEDS))
    expected = [seed % 10 for seed in SEEDS]
    assert [image.label for image in reply.images] == expected
    assert [image.data for image in reply.images] == bare_samples(repository, "tiny-gan", SEEDS, 1.0, expected)


def test_sample_has_no_label_when_the_model_is_unconditional(shared_service: Service) -> None:
    reply = shared_service.stub.Sample(pb.SampleRequest(model="plain-gan", seeds=[4]))
    assert not reply.images[0].HasField("label")


def test_sample_gives_one_label_to_all_images(shared_service: Service) -> None:
    reply = shared_service.stub.Sample(pb.SampleRequest(model="tiny-gan", seeds=SEEDS, labels=[4]))
    assert [image.label for image in reply.images] == [4] * 6


def test_sample_range_reaches_the_last_seed(shared_service: Service) -> None:
    first = 2**64 - 40
    ranged = shared_service.stub.Sample(pb.SampleRequest(model="tiny-gan", range=pb.SeedRange(first=first, count=40)))
    listed = shared_service.stub.Sample(pb.SampleRequest(model="tiny-gan", seeds=range(first, 2**64)))
    assert ranged.images == listed.images
    assert ranged.images[-1].seed == 2**64 - 1


def test_stream_gives_the_images_of_sample_when_put_in_order(shared_service: Service) -> None:
    request = pb.SampleRequest(model="tiny-vae", range=pb.SeedRange(first=5, count=75))
    replies = list(shared_service.stub.SampleStream(request))
    streamed = sorted((image for reply in replies for image in reply.images), key=lambda image: image.index)
    assert streamed == list(shared_service.stub.Sample(request).images)
    assert len(replies) >= 5
    assert all(reply.timing.inference_us > 0 for reply in replies)


def test_sample_gives_the_same_bytes_to_callers_at_once(shared_service: Service) -> None:
    alone = shared_service.stub.Sample(pb.SampleRequest(model="tiny-gan", range=pb.SeedRange(count=64)))
    by_seed = {image.seed: image.data for image in alone.images}

    def ask(first: int) -> bool:
        request = pb.SampleRequest(model="tiny-gan", range=pb.SeedRange(first=first, count=1 + first % 21))
        images = shared_service.stub.Sample(request).images
        return all(image.data == by_seed[image.seed] for image in images) and len(images) == 1 + first % 21

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(ask, range(43)))


def test_decode_of_a_latent_gives_the_image_of_its_seed(shared_service: Service, model_repository: Path) -> None:
    prior = Certificate.read(model_repository / "tiny-vae" / "1").prior
    assert prior is not None
    sampled = shared_service.stub.Sample(pb.SampleRequest(model="tiny-vae", seeds=SEEDS, truncation=0.5, labels=[2]))
    assert prior.num_labels == 10
    z = truncated_latents(SEEDS, 0.5, 8, prior, [2] * len(SEEDS))
    decoded = shared_service.stub.Decode(pb.DecodeRequest(model="tiny-vae", latents=z.ravel(), labels=[2]))
    assert [image.data for image in decoded.images] == [image.data for image in sampled.images]
    assert [(image.index, image.seed, image.label) for image in decoded.images] == [(i, 0, 2) for i in range(6)]


def test_decode_takes_a_label_for_each_latent(shared_service: Service, repository: Repository) -> None:
    z, labels = latents([1, 2, 3], 16), np.array([[7], [0], [9]], np.int64)
    reply = shared_service.stub.Decode(pb.DecodeRequest(model="tiny-gan", latents=z.ravel(), labels=labels[:, 0]))
    (expected,) = bare(repository, "tiny-gan-decode", ["image"], latent=z, label=labels)
    assert [image.data for image in reply.images] == [image.tobytes() for image in expected]


def test_encode_gives_the_posterior_of_the_exported_file(shared_service: Service, repository: Repository) -> None:
    images = [
        image.data for image in shared_service.stub.Sample(sample_request(20, model="tiny-vae", first=100)).images
    ]
    reply = shared_service.stub.Encode(pb.EncodeRequest(model="tiny-vae", images=images))
    stack = np.stack([np.frombuffer(data, np.uint8).reshape(32, 32, 1) for data in images])
    mean, logvar = bare(repository, "tiny-vae-encode", ["mean", "logvar"], image=stack)
    np.testing.assert_array_equal(np.array(reply.mean, np.float32).reshape(20, 8), mean)
    np.testing.assert_array_equal(np.array(reply.logvar, np.float32).reshape(20, 8), logvar)
    assert (list(reply.latent_shape), reply.version, reply.digest) == ([8], "1", repository.find("tiny-vae").digest)


@pytest.mark.parametrize("image_format", [pb.FORMAT_PNG, pb.FORMAT_WEBP])
def test_encode_of_a_lossless_file_equals_encode_of_its_pixels(
    shared_service: Service, image_format: pb.Format
) -> None:
    request = sample_request(3, model="tiny-vae", first=100)
    raw = [image.data for image in shared_service.stub.Sample(request).images]
    request.format = image_format
    files = [image.data for image in shared_service.stub.Sample(request).images]
    of_raw = shared_service.stub.Encode(pb.EncodeRequest(model="tiny-vae", images=raw))
    of_files = shared_service.stub.Encode(pb.EncodeRequest(model="tiny-vae", images=files, format=image_format))
    assert of_files.mean == of_raw.mean
    assert of_files.logvar == of_raw.logvar


@pytest.mark.parametrize("loop", [False, True])
def test_walk_passes_through_the_images_of_its_seeds(shared_service: Service, loop: bool) -> None:
    seeds, steps = [3, 2**64 - 1, 12], 7
    walk = pb.WalkRequest(
        model="tiny-gan", seeds=seeds, steps=steps, loop=loop, truncation=0.8, labels=[6], format=pb.FORMAT_PNG
    )
    frames = [image for reply in shared_service.stub.Walk(walk) for image in reply.images]
    assert [frame.index for frame in frames] == list(range(21 if loop else 15))
    assert [frame.seed for frame in frames] == [seeds[i // steps] for i in range(len(frames))]
    samples = shared_service.stub.Sample(
        pb.SampleRequest(model="tiny-gan", seeds=seeds, truncation=0.8, labels=[6], format=pb.FORMAT_PNG)
    ).images
    assert [frames[i].data for i in range(0, len(frames), steps)] == [image.data for image in samples]
    assert len({frame.data for frame in frames}) == len(frames)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("first", [0, 1, 9, 14])
def test_walk_from_a_later_frame_is_the_rest_of_the_walk(shared_service: Service, loop: bool, first: int) -> None:
    def frames(first_frame: int) -> list[Any]:
        walk = pb.WalkRequest(
            model="tiny-gan",
            seeds=[3, 2**64 - 1, 12],
            steps=7,
            loop=loop,
            first_frame=first_frame,
            format=pb.FORMAT_PNG,
        )
        return [image for reply in shared_service.stub.Walk(walk) for image in reply.images]

    assert frames(first) == frames(0)[first:]


def test_pinned_digest_gives_the_images_of_that_digest(shared_service: Service, repository: Repository) -> None:
    digest = repository.find("tiny-gan").digest
    pinned = shared_service.stub.Sample(pb.SampleRequest(model="tiny-gan", seeds=[5], digest=digest))
    assert pinned.info.digest == digest
    assert pinned.images == shared_service.stub.Sample(pb.SampleRequest(model="tiny-gan", seeds=[5])).images


def test_walk_has_label_0_when_none_is_given(shared_service: Service) -> None:
    replies = shared_service.stub.Walk(pb.WalkRequest(model="tiny-gan", seeds=[1, 2], steps=1))
    assert [frame.label for reply in replies for frame in reply.images] == [0, 0]


@pytest.mark.parametrize("model", ["tiny-gan", "plain-gan"])
def test_png_says_how_to_make_it_again(shared_service: Service, repository: Repository, model: str) -> None:
    request = pb.SampleRequest(model=model, seeds=[2**64 - 1], truncation=0.7, format=pb.FORMAT_PNG)
    (image,) = shared_service.stub.Sample(request).images
    with Image.open(io.BytesIO(image.data)) as opened:
        text, pixels = dict(opened.info), opened.tobytes()
    assert text.pop("ganvas:machine-made") == "true"
    assert "machine-made" in text.pop("Software")
    assert "AI-generated" in text.pop("Description")
    expected = {
        "ganvas:model": model,
        "ganvas:version": "1",
        "ganvas:digest": repository.find(model).digest,
        "ganvas:seed": str(2**64 - 1),
        "ganvas:truncation": "0.7",
    }
    assert text == (expected if model == "plain-gan" else expected | {"ganvas:label": "5"})
    labels = [5] if model == "tiny-gan" else None
    assert [pixels] == bare_samples(repository, model, [2**64 - 1], 0.7, labels)


def test_list_models_names_the_newest_version_of_each(shared_service: Service, repository: Repository) -> None:
    models = shared_service.stub.ListModels(pb.ListModelsRequest()).models
    assert [model.name for model in models] == ["plain-gan", "tiny-gan", "tiny-vae"]
    vae = models[2]
    assert (vae.family, vae.height, vae.width, vae.channels, list(vae.latent_shape)) == ("vae", 32, 32, 1, [8])
    assert (vae.can_encode, vae.precision, vae.golden, list(vae.versions)) == (True, "fp32", "exact", ["1"])
    assert list(vae.labels) == [str(i) for i in range(10)]
    assert (vae.limits.max_count, vae.limits.max_stream_count, vae.limits.max_batch_size) == (256, 2**20, 16)
    assert vae.limits.truncation_max == 1.5
    assert not models[0].labels
    assert not models[1].can_encode


def test_get_model_hands_out_the_certificate(shared_service: Service, repository: Repository) -> None:
    reply = shared_service.stub.GetModel(pb.GetModelRequest(model="tiny-gan", version="1"))
    assert Certificate.from_json(reply.certificate_json) == repository.find("tiny-gan").certificate
    on_disk = Path(repository.find("tiny-gan").folder / "certificate.json").read_text(encoding="utf-8")
    assert reply.certificate_json == on_disk
    assert reply.encode_certificate_json == ""
    encode = repository.find("tiny-vae").encode
    reply = shared_service.stub.GetModel(pb.GetModelRequest(model="tiny-vae"))
    assert Certificate.from_json(reply.encode_certificate_json) == encode
