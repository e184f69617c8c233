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

    # The grid, by both paths.
    seeds = np.arange(NUM_COLUMNS * len(info.labels), dtype=np.uint64)
    labels = np.repeat(np.arange(len(info.labels)), NUM_COLUMNS)
    service = sampler.sample(model, seeds, labels=labels.tolist())
    if not np.array_equal(service.array, _sample_directly(server.triton_grpc, model, seeds, labels)):
        raise GalleryError(f"{model}: the service and Triton directly gave different images.")
    paths = [_save(folder / "grid.png", image_grid(service.array, num_columns=NUM_COLUMNS, scale=SCALE), service.info)]

    # Real digits above their reconstructions.
    if info.can_encode:
        files = sorted(examples.glob("*.png"))
        real = np.stack([np.asarray(Image.open(file)) for file in files])[..., None]
        posterior = sampler.encode(model, [file.read_bytes() for file in files])
        decoded = sampler.decode(model, posterior.mean, labels=list(range(len(files))))
        strip = image_grid(np.concatenate([real, decoded.array]), num_columns=len(files), scale=SCALE)
        paths.append(_save(folder / "reconstruction.png", strip, decoded.info))

    # The walk, as a strip and as an animation.
    frames = list(sampler.walk(model, WALK_SEEDS, steps=WALK_STEPS, loop=True, label=WALK_LABEL))
    images = np.stack([frame.array for frame in frames])
    strip = image_grid(images, num_columns=WALK_STEPS, scale=SCALE)
    paths.append(_save(folder / "walk.png", strip, frames[0].info))
    large = [to_pil(image_grid(image[None], num_columns=1, scale=4 * SCALE)) for image in images]
    paths.append(folder / "walk.gif")
    large[0].save(paths[-1], save_all=True, append_images=large[1:], duration=FRAME_MS, loop=0)
    return paths


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


def _save(path: Path, sheet: NDArray[np.uint8], info: ImageInfo) -> Path:
    fields = {"model": info.model, "version": info.version, "digest": info.digest}
    text = image_text("AI-generated images of the demo.", fields)
    write_image(path, sheet, text)
    return path
