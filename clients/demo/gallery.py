"""The images of the demo, over gRPC by both paths: through the service, and from Triton directly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tritonclient.grpc import InferenceServerClient, InferInput

from clients.demo.errors import GalleryError
from clients.local_server import LocalServer
from ganvas_client import ImageInfo, Sampler
from ganvas_core.grid import image_grid
from ganvas_core.interface import kserve_datatype, sample_inputs
from ganvas_core.provenance import image_text, to_pil, write_image

NUM_COLUMNS = 10
SCALE = 2
WALK_SEEDS = [3, 14, 15, 92]
WALK_STEPS = 12
WALK_LABEL = 3
FRAME_MS = 60


def make_gallery(folder: Path, model: str, sampler: Sampler, server: LocalServer, *, examples: Path) -> list[Path]:
    """Write the images of one model under `folder`; returns their paths.

    grid.png: a row per label, ten seeds each. reconstruction.png (VAE): real digits above what encode and decode
    make of them. walk.png and walk.gif: the same label from seed to seed.

    Raises:
        GalleryError: the service and Triton directly differ in a single byte.
        GanvasError: a call failed.
    """
    folder.mkdir(parents=True)
    info = sampler.model(model)
    seeds = np.arange(NUM_COLUMNS * len(info.labels), dtype=np.uint64)
    labels = np.repeat(np.arange(len(info.labels)), NUM_COLUMNS)
    service = sampler.sample(model, seeds, labels=labels.tolist())
    if not np.array_equal(service.array, _sample_directly(server.triton_grpc, model, seeds, labels)):
        raise GalleryError(f"{model}: the service and Triton directly gave different images.")
    paths = [_save(folder / "grid.png", image_grid(service.array, num_columns=NUM_COLUMNS, scale=SCALE), service.info)]
    if info.can_encode:
        paths.append(_reconstruct(folder / "reconstruction.png", model, sampler, examples))
    return paths + _walk(folder, model, sampler)


def _sample_directly(
    address: str, model: str, seeds: NDArray[np.uint64], labels: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """[N,H,W,C] uint8 from Triton's own protocol, one batch of 10 a call."""
    with InferenceServerClient(address) as client:
        batches = []
        for start in range(0, len(seeds), NUM_COLUMNS):
            batch = slice(start, start + NUM_COLUMNS)
            inputs = []
            for name, array in sample_inputs(seeds[batch], labels=labels[batch]).items():
                inputs.append(InferInput(name, list(array.shape), kserve_datatype(array.dtype)))
                inputs[-1].set_data_from_numpy(array)
            batches.append(client.infer(model, inputs).as_numpy("image"))
    return np.concatenate(batches)


def _reconstruct(path: Path, model: str, sampler: Sampler, examples: Path) -> Path:
    files = [file.read_bytes() for file in sorted(examples.glob("*.png"))]
    real = np.stack([np.asarray(Image.open(file)) for file in sorted(examples.glob("*.png"))])[..., None]
    posterior = sampler.encode(model, files)
    decoded = sampler.decode(model, posterior.mean, labels=list(range(len(files))))
    strip = image_grid(np.concatenate([real, decoded.array]), num_columns=len(files), scale=SCALE)
    return _save(path, strip, decoded.info)


def _walk(folder: Path, model: str, sampler: Sampler) -> list[Path]:
    frames = list(sampler.walk(model, WALK_SEEDS, steps=WALK_STEPS, loop=True, label=WALK_LABEL))
    images = np.stack([frame.array for frame in frames])
    strip = _save(folder / "walk.png", image_grid(images, num_columns=WALK_STEPS, scale=SCALE), frames[0].info)
    large = [to_pil(image_grid(image[None], num_columns=1, scale=4 * SCALE)) for image in images]
    animation = folder / "walk.gif"
    large[0].save(animation, save_all=True, append_images=large[1:], duration=FRAME_MS, loop=0)
    return [strip, animation]


def _save(path: Path, sheet: NDArray[np.uint8], info: ImageInfo) -> Path:
    fields = {"model": info.model, "version": info.version, "digest": info.digest}
    text = image_text("AI-generated images of the demo.", fields)
    write_image(path, sheet, text)
    return path
