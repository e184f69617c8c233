"""How near the samples of a run come to its training images, pixel by pixel, beside held-out images.

    python -m benchmarks.novelty out/critters-gan/checkpoints/000080.000kimg --samples 300

Distances are exact: of all pixels of all training images, as the root of the mean squared difference in grey levels
(0 to 255). It prints a table and writes the samples that come nearest, each above its training image, to novelty.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganvas_core.grid import image_grid
from ganvas_core.provenance import image_text, write_image
from training.data import load_dataset
from training.evaluation.evaluate import sample_labels
from training.evaluation.models import CheckpointModel
from training.run.checkpoint import load_model
from training.run.folder import read_config

CHUNK = 1000
NUM_SHOWN = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint in a run folder")
    parser.add_argument("--out", type=Path, default=Path("out/novelty.png"), help="image to write")
    parser.add_argument("--samples", type=int, default=1000, help="samples, and held-out images, to look at")
    arguments = parser.parse_args()
    config = read_config(arguments.checkpoint.resolve().parents[1])
    network = config.network
    split = load_dataset(config.data, image_shape=network.image_shape, num_classes=network.num_classes, options=config)
    loaded = load_model(arguments.checkpoint)
    model = CheckpointModel.of(loaded, name=loaded.info.preset)
    samples = model.sample(range(arguments.samples), sample_labels(model, split.train, arguments.samples))

    print(f"{len(split.train)} training images; distance to the nearest, in levels of 255 (root mean square)")
    print(f"{'':20}{'images':>8}{'identical':>11}{'least':>8}{'5 %':>8}{'median':>8}")
    for name, images in (("samples", samples), ("held-out images", split.held_out.images[: arguments.samples])):
        distance, index = nearest_pixels(images, split.train.images)
        least, low, median = np.percentile(distance, [0, 5, 50])
        print(f"{name:20}{len(images):8}{int((distance == 0).sum()):11}{least:8.1f}{low:8.1f}{median:8.1f}")
        if images is samples:
            near = np.argsort(distance)[:NUM_SHOWN]
            shown = torch.cat([samples[near], split.train.images[index[near]]]).permute(0, 2, 3, 1).numpy()
    text = image_text("Upper row: AI-generated samples. Lower row: the nearest training image of each.", {})
    write_image(arguments.out, image_grid(shown, num_columns=NUM_SHOWN, scale=2), text)


def nearest_pixels(images: Tensor, others: Tensor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each image [N, C, H, W] uint8 the distance to the nearest of the others, [M, C, H, W], and its row: [N] each.

    Every sum of squares is a whole number that float64 holds exactly.
    """
    rows = images.flatten(1).double()
    lengths = rows.square().sum(1)
    least = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(rows), dtype=torch.int64)
    for start in range(0, len(others), CHUNK):
        part = others[start : start + CHUNK].flatten(1).double()
        squares = lengths[:, None] + part.square().sum(1) - 2 * rows @ part.T
        found, at = squares.min(1)
        index = torch.where(found < least, at + start, index)
        least = torch.minimum(least, found)
    return (least / rows.shape[1]).sqrt().numpy(), index.numpy()


if __name__ == "__main__":
    main()
