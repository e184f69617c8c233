"""One figure of a GAN, a VAE from its normal and from its learned prior, and a VAE-GAN, trained on the same images.

    python -m benchmarks.families

It trains the presets with `./ganvas train` into out/families, passing over those that are trained, and evaluates each
model on held-out images. It writes docs/images/families.png and, with every figure,
benchmarks/results/families-DATE.json. The data first: `./ganvas data get fashion`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from clients.bench.machine import processor
from ganvas_core.grid import image_grid
from ganvas_core.provenance import image_text, write_image
from training.data import Dataset, Split, load_dataset
from training.evaluation.evaluate import Reference, quality, reference, sample_labels
from training.evaluation.features import default_features, load_features
from training.evaluation.models import CheckpointModel
from training.evaluation.sharpness import relative_detail
from training.evaluation.variational import reconstruction
from training.run.checkpoint import load_model

ROOT = Path(__file__).parents[1]
PRESETS = ("fashion-vae", "fashion-vae-gan", "fashion-gan")
NUM_COLUMNS = 8
"""Seeds of each label, and held-out images to reconstruct."""
SCALE = 2
DPI = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A model in the figure."""

    title: str
    model: CheckpointModel
    figures: dict[str, float]


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    for preset in PRESETS:
        if not (Path(arguments.work) / preset / "checkpoint" / "model.json").is_file():
            command = ["train", preset, "--out", f"{arguments.work}/{preset}", "--threads", str(arguments.threads)]
            subprocess.run([sys.executable, "-m", "training", *command], check=True, cwd=ROOT)
    vae, vae_gan, gan = (f"{arguments.work}/{preset}/checkpoint" for preset in PRESETS)
    models = {
        "VAE, normal prior": without_prior(load(vae)),
        "VAE, mixture prior": load(vae),
        "VAE-GAN, mixture prior": load(vae_gan),
        "GAN": load(gan),
    }
    facts = models["GAN"].facts
    split = load_dataset(facts.dataset, image_shape=facts.image_shape, num_classes=len(facts.labels))
    features = load_features(default_features(split.train), num_channels=facts.image_shape[2])
    train, held_out = (some(part, arguments.images) for part in (split.train, split.held_out))
    split = dataclasses.replace(split, train=train, held_out=held_out)
    real = reference(split, features, num_images=arguments.images)
    columns = [Column(title=title, model=model, figures=measure(model, real, split)) for title, model in models.items()]
    floor = {"kernel_distance": quality(real.train, real, of_train=True).kernel.mean, "frechet": real.floor}
    write_record(columns, features.name, floor, arguments.images)
    draw(columns, split, features.name, arguments.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="out/families", help="folder for the runs")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's compute threads")
    parser.add_argument("--images", type=int, default=5000, help="samples, training and held-out images to measure on")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "families.png", help="the figure")
    return parser.parse_args()


def load(checkpoint: str) -> CheckpointModel:
    loaded = load_model(Path(checkpoint))
    return CheckpointModel.of(loaded, name=loaded.info.preset)


def some(dataset: Dataset, num_images: int) -> Dataset:
    """Images drawn at random, always the same ones."""
    rows = np.random.default_rng(0).permutation(len(dataset))[:num_images]
    return dataset.subset(torch.from_numpy(rows))


def without_prior(model: CheckpointModel) -> CheckpointModel:
    """The model as `./ganvas export --prior normal` has it."""
    model._generator.prior = None  # type: ignore[assignment]
    return model


def measure(model: CheckpointModel, real: Reference, split: Split) -> dict[str, float]:
    """As `./ganvas evaluate` does, of as many samples as training images are looked at."""
    images = model.sample(range(len(real.train)), sample_labels(model, split.train, len(real.train)))
    found = quality(real.features(images), real)
    figures = {
        "kimg": model.facts.kimg,
        "kernel_distance": found.kernel.mean,
        "frechet_ratio": found.ratio,
        **dataclasses.asdict(found.manifold),
        "relative_detail": relative_detail(images, real.held_out.images),
    }
    if model.encodes is not None:
        figures |= {"psnr_db": reconstruction(model.encodes, real.held_out).psnr_db}
    return {name: round(value, 4) for name, value in figures.items()}


def draw(columns: list[Column], split: Split, features: str, out: Path) -> None:
    """Samples, a row per label; below them held-out images over their reconstructions; below them the figures."""
    samples = [sample_sheet(column.model, len(split.train.label_names)) for column in columns]
    strips = [reconstruction_strip(column.model, split) for column in columns]
    height, width = samples[0].shape[:2]
    strip_height = strips[0].shape[0]
    gap, head, foot = 16, 34, 136
    total_width = (width + gap) * len(columns) + gap
    total_height = head + height + gap + strip_height + foot
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for i, column in enumerate(columns):
        left = gap + i * (width + gap)
        figure.text(left / total_width, 1 - 24 / total_height, column.title, fontsize=15, weight="bold")
        figure.figimage(samples[i], left, total_height - head - height, cmap="gray", vmin=0, vmax=255)
        figure.figimage(strips[i], left, foot, cmap="gray", vmin=0, vmax=255)
        figure.text(left / total_width, (foot - 8) / total_height, caption(column, features), fontsize=11.5, va="top")
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    pixels = drawn[:, :, :1].copy()  # all is grey
    text = image_text("AI-generated samples and reconstructions of four generative models.", {"data": split.train.name})
    write_image(out, pixels, text)


def sample_sheet(model: CheckpointModel, num_classes: int) -> NDArray[np.uint8]:
    """[H, W] uint8: a row per label, seeds from 0; the same seeds for every model."""
    labels = np.repeat(np.arange(num_classes), NUM_COLUMNS)
    return sheet(model.sample(range(len(labels)), labels))


def reconstruction_strip(model: CheckpointModel, split: Split) -> NDArray[np.uint8]:
    """[H, W] uint8: held-out images, and below each its encode → decode; white for a model without an encoder."""
    labels = split.held_out.labels
    assert labels is not None
    rows = torch.tensor([int(torch.nonzero(labels == label)[0]) for label in range(NUM_COLUMNS)])
    images = split.held_out.images[rows]
    if model.encodes is None:
        return np.full_like(sheet(torch.cat([images, images])), 255)
    mean, _ = model.encodes.encode(images)
    return sheet(torch.cat([images, model.decode(mean, np.arange(NUM_COLUMNS))]))


def sheet(images: Tensor) -> NDArray[np.uint8]:
    return image_grid(images.permute(0, 2, 3, 1).numpy(), num_columns=NUM_COLUMNS, scale=SCALE)[:, :, 0]


def caption(column: Column, features: str) -> str:
    figures = column.figures
    lines = [
        f"{figures['kimg']:.0f},000 images; by {features}:",
        f"kernel distance {figures['kernel_distance']:.2f},",
        f"Fréchet distance {figures['frechet_ratio']:.1f} times its floor",
        f"precision {figures['precision']:.2f}, recall {figures['recall']:.2f}, "
        f"fine detail {figures['relative_detail']:.2f}",
    ]
    psnr = figures.get("psnr_db")
    lines.append("no encoder" if psnr is None else f"reconstruction (last row) {psnr:.1f} dB")
    return "\n".join(lines)


def write_record(columns: list[Column], features: str, floor: dict[str, float], num_images: int) -> None:
    record = {
        "command": "python -m benchmarks.families " + " ".join(sys.argv[1:]),
        "processor": processor(),
        "torch": torch.__version__,
        "features": features,
        "images": num_images,
        "training images in the samples' place": floor,
        "models": {column.title: column.figures for column in columns},
    }
    path = ROOT / "benchmarks" / "results" / f"families-{datetime.date.today().isoformat()}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record["models"], indent=2))


if __name__ == "__main__":
    main()
