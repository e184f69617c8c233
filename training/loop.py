"""The training loop, the same for every family: take a step, now and then draw and save."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ganvas_core.cli import UserError
from ganvas_core.provenance import image_text, write_image
from training.config import TrainConfig
from training.data import load_dataset
from training.data.dataset import batch_indices
from training.evaluation.measures import measure
from training.families import FAMILIES
from training.run.checkpoint import CheckpointError, CheckpointInfo, DatasetInfo, ImageFormat, load_model, save_model
from training.run.folder import CHECKPOINT_NAME, EXAMPLES_NAME, SAMPLES_NAME, git_revision
from training.run.resume import RESUME_NAME, load_resume, save_resume
from training.run.samples import reconstruction_grid, sample_grid, write_examples
from training.seeds import sub_seed

__all__ = ["DivergedError", "Outcome", "train"]


class DivergedError(UserError):
    """A loss is NaN or infinite."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of train() ended."""

    finished: bool
    """False: it was asked to stop, and saved where it was."""
    kimg: float
    metrics: dict[str, float]
    """Empty unless finished."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train in a run folder, from its resume state where it has one, until the budget is spent or should_stop.

    A resumed run ends in the same weights, bit for bit, as one that never stopped.

    Args:
        folder: made by run.folder.create.
        on_step: called with the number of steps done and the latest losses; first with the step it starts from.
    Raises:
        DivergedError: a loss is no longer finite. What was saved before stays.
        CheckpointError: the resume state is damaged, or the checkpoint cannot be written.
        UsageError: the data set does not fit the network.
        OSError: I/O or permission error.
    """
    with _compute_threads(config.threads):
        run = Run(config, folder)
        write_examples(folder / EXAMPLES_NAME, run.split.train)
        on_step(run.step, {})
        if run.step == config.num_steps and (metrics := run.saved_metrics()):
            return Outcome(finished=True, kimg=run.kimg, metrics=metrics)

        while run.step < config.num_steps:
            if should_stop():
                if run.step:
                    run.save(metrics={})
                return Outcome(finished=False, kimg=run.kimg, metrics={})
            losses = run.advance()
            if run.is_due(config.samples_kimg):
                run.draw()
            if run.is_due(config.save_kimg):
                run.save(metrics={})
            on_step(run.step, losses)

        metrics = run.measure()
        run.draw()
        run.save(metrics=metrics)
        return Outcome(finished=True, kimg=run.kimg, metrics=metrics)


class Run:
    """One training run: data, trainer, random state and step. Starts from its seed, or from resume.safetensors."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.image_range = FAMILIES[config.family].image_range
        network = config.network
        self.split = load_dataset(config.dataset, image_shape=network.image_shape, num_classes=network.num_classes)
        low, high = self.image_range
        self.images = self.split.train.images / 255.0 * (high - low) + low
        """[N, C, H, W] float32: what is trained on."""
        self.labels = self.split.train.labels if network.num_classes else None

        with torch.random.fork_rng(devices=[]):  # PyTorch's global random stream stays as it was.
            torch.manual_seed(sub_seed(config.seed, "weights"))
            self.trainer = FAMILIES[config.family].trainer(config, len(self.images))
        self.rng = torch.Generator().manual_seed(sub_seed(config.seed, "noise"))
        path = folder / RESUME_NAME
        self.step = load_resume(path, trainer=self.trainer, rng=self.rng) if path.exists() else 0

    @property
    def kimg(self) -> float:
        return self.config.kimg(self.step)

    def advance(self) -> dict[str, float]:
        """Take one step; returns the losses by name."""
        config = self.config
        batch = batch_indices(
            self.step, batch_size=config.batch_size, num_images=len(self.images), seed=sub_seed(config.seed, "order")
        )
        labels = None if self.labels is None else self.labels[batch]
        losses = self.trainer.step(self.step, self.images[batch], labels, self.rng)
        self.step += 1
        for name, value in losses.items():
            if not math.isfinite(value):
                raise DivergedError(f"the {name} loss is {value} at {self.kimg:.1f} kimg. Lower --learning-rate.")
        return losses

    def is_due(self, interval_kimg: float) -> bool:
        """True on the first step at or past each multiple of the interval."""
        return self.kimg // interval_kimg > self.config.kimg(self.step - 1) // interval_kimg

    def measure(self) -> dict[str, float]:
        network = self.config.network
        return measure(
            self.split,
            self.trainer.generator_ema,
            self.trainer.encoder_ema,
            latent_shape=network.latent_shape,
            num_classes=network.num_classes,
            image_range=self.image_range,
        )

    def draw(self) -> None:
        """Write a sample grid, and reconstructions where there is an encoder."""
        network, trainer = self.config.network, self.trainer
        folder, stamp = self.folder / SAMPLES_NAME, f"{self.kimg:09.3f}kimg"
        common = {"model": self.config.preset, "kimg": f"{self.kimg:g}"}
        grid = sample_grid(
            trainer.generator_ema,
            latent_shape=network.latent_shape,
            num_classes=network.num_classes,
            image_range=self.image_range,
        )
        if network.num_classes:
            description = "AI-generated samples: a row per seed from 0, a column per label from 0."
        else:
            description = "AI-generated samples: seeds 0, 1, 2, … row by row."
        write_image(folder / f"samples-{stamp}.png", grid, image_text(description, common | {"truncation": "1.0"}))
        if trainer.encoder_ema is not None:
            held_out, (low, high) = self.split.held_out, self.image_range
            images = held_out.images[:10] / 255.0 * (high - low) + low
            labels = None if held_out.labels is None or not network.num_classes else held_out.labels[:10]
            strip = reconstruction_grid(trainer.encoder_ema, trainer.generator_ema, images, labels, self.image_range)
            description = "Upper row: images from the data set. Lower row: the AI-generated reconstruction of each."
            write_image(folder / f"reconstructions-{stamp}.png", strip, image_text(description, common))

    def save(self, *, metrics: dict[str, float]) -> None:
        """Save the resume state, then the checkpoint of the averaged weights."""
        save_resume(self.folder / RESUME_NAME, step=self.step, trainer=self.trainer, rng=self.rng)
        config, dataset = self.config, self.split.train
        height, width, channels = config.network.image_shape
        info = CheckpointInfo(
            family=config.family,
            preset=config.preset,
            network=config.network,
            image=ImageFormat(height=height, width=width, channels=channels, range=self.image_range),
            labels=dataset.label_names if config.network.num_classes else (),
            dataset=DatasetInfo(name=dataset.name, size=len(dataset), sha256=dataset.sha256),
            metrics=metrics,
            kimg=self.kimg,
            seed=config.seed,
            git_revision=git_revision(),
            torch=torch.__version__,
        )
        save_model(self.folder / CHECKPOINT_NAME, info, self.trainer.generator_ema, self.trainer.encoder_ema)

    def saved_metrics(self) -> dict[str, float]:
        """What the saved checkpoint of this very step measured; empty where it is missing, older or damaged."""
        try:
            info = load_model(self.folder / CHECKPOINT_NAME).info
        except CheckpointError:
            return {}
        return info.metrics if info.kimg == self.kimg else {}


@contextmanager
def _compute_threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
