"""The training loop, the same for both families: show a batch, take a step, now and then draw and save."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ganvas_core.provenance import image_text, write_image
from training.checkpoint import CheckpointError, DatasetInfo, ImageInfo, ModelInfo, load_model, save_model
from training.data import Dataset, batch_indices, load_digits
from training.gan import GanTrainer
from training.grids import reconstruction_grid, sample_grid
from training.metrics import measure
from training.presets import GanConfig, VaeConfig
from training.resume import RESUME_NAME, load_resume, save_resume
from training.run_folder import CHECKPOINT_NAME, EXAMPLES_NAME, SAMPLES_NAME, git_revision
from training.vae import VaeTrainer

__all__ = ["DivergedError", "Outcome", "train"]


class DivergedError(Exception):
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
    config: GanConfig | VaeConfig,
    folder: Path,
    *,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train in a run folder, from its resume state where it has one, until the budget is spent or should_stop.

    A run that was stopped or killed, and then gone on with, ends in the same weights, bit for bit, as one that never
    stopped.

    Args:
        folder: made by run_folder.create.
        on_step: called with the number of steps done and the latest losses; first with where it starts, and none.
    Raises:
        DivergedError: a loss is no longer finite. What was saved before stays.
        CheckpointError: the resume state is damaged, or the checkpoint cannot be written.
        OSError: the disk is full.
    """
    with _compute_threads(config.threads):
        run = _open(config, folder)
        run.show_data()
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


@dataclass(kw_only=True)
class _Run:
    """A run in memory: what the loop moves forward, draws and saves."""

    config: GanConfig | VaeConfig
    folder: Path
    dataset: Dataset
    images: Tensor
    """[N, C, H, W] float32 in the trainer's image range: the whole dataset."""
    trainer: GanTrainer | VaeTrainer
    rng: torch.Generator
    step: int
    """Steps done."""

    @property
    def kimg(self) -> float:
        return self.config.kimg(self.step)

    def advance(self) -> dict[str, float]:
        """Take one step; returns the losses by name."""
        config, labels = self.config, self.dataset.labels
        batch = batch_indices(self.step, batch_size=config.batch_size, num_images=len(labels), seed=config.seed)
        losses = self.trainer.step(self.step, self.images[batch], labels[batch], self.rng)
        self.step += 1
        for name, value in losses.items():
            if not math.isfinite(value):
                raise DivergedError(f"the {name} loss is {value} at {self.kimg:.1f} kimg. Lower --learning-rate.")
        return losses

    def is_due(self, interval_kimg: float) -> bool:
        """True on the first step at or past each multiple of the interval."""
        return self.kimg // interval_kimg > self.config.kimg(self.step - 1) // interval_kimg

    def measure(self) -> dict[str, float]:
        trainer = self.trainer
        return measure(
            self.dataset,
            trainer.average,
            trainer.encoder,
            latent_dim=self.config.network.latent_dim,
            image_range=trainer.image_range,
        )

    def show_data(self) -> None:
        """Write the first image of each label from the dataset: what training sees, and files to encode."""
        labels = self.dataset.labels.tolist()
        for label, name in enumerate(self.dataset.label_names):
            image = self.dataset.images[labels.index(label)].permute(1, 2, 0).numpy()
            path = self.folder / EXAMPLES_NAME / f"{label:03d}.png"
            description = f"A scan from the dataset {self.dataset.name}."
            write_image(path, image, image_text(description, {"label": name}, ai_generated=False))

    def draw(self) -> None:
        """Write the sample grid, and a VAE's reconstructions, of this moment."""
        network, trainer = self.config.network, self.trainer
        folder, stamp = self.folder / SAMPLES_NAME, f"{self.kimg:09.3f}kimg"
        common = {"model": self.config.preset, "kimg": f"{self.kimg:g}"}
        grid = sample_grid(
            trainer.average,
            latent_dim=network.latent_dim,
            num_classes=network.num_classes,
            image_range=trainer.image_range,
        )
        description = "Machine-made samples: a row per seed, 0 to 9, and a column per label."
        fields = common | {"seed": "0-9", "label": "0-9", "truncation": "1.0"}
        write_image(folder / f"samples-{stamp}.png", grid, image_text(description, fields))
        if trainer.encoder is not None:
            strip = reconstruction_grid(
                trainer.encoder, trainer.average, self.images[:10], self.dataset.labels[:10], trainer.image_range
            )
            description = "Upper row: scans from the dataset. Lower row: the machine-made reconstruction of each."
            write_image(folder / f"reconstructions-{stamp}.png", strip, image_text(description, common))

    def save(self, *, metrics: dict[str, float]) -> None:
        """Save the resume state, then the checkpoint of the averaged weights."""
        save_resume(self.folder / RESUME_NAME, step=self.step, trainer=self.trainer, rng=self.rng)
        config, network, dataset, trainer = self.config, self.config.network, self.dataset, self.trainer
        info = ModelInfo(
            family=config.family,
            preset=config.preset,
            network=network,
            image=ImageInfo(
                height=network.image_size,
                width=network.image_size,
                channels=network.image_channels,
                range=trainer.image_range,
            ),
            labels=dataset.label_names,
            dataset=DatasetInfo(name=dataset.name, size=len(dataset), sha256=dataset.sha256),
            metrics=metrics,
            kimg=self.kimg,
            seed=config.seed,
            git_revision=git_revision(),
            torch=torch.__version__,
        )
        save_model(self.folder / CHECKPOINT_NAME, info, trainer.average, trainer.encoder)

    def saved_metrics(self) -> dict[str, float]:
        """What the saved checkpoint of this very step measured; empty where it is missing, older or damaged."""
        try:
            info = load_model(self.folder / CHECKPOINT_NAME).info
        except CheckpointError:
            return {}
        return info.metrics if info.kimg == self.kimg else {}


def _open(config: GanConfig | VaeConfig, folder: Path) -> _Run:
    """The run as the seed makes it, or as its resume state has it; PyTorch's global random stream stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        trainer = GanTrainer(config) if isinstance(config, GanConfig) else VaeTrainer(config)
    rng = torch.Generator().manual_seed(config.seed)
    path = folder / RESUME_NAME
    step = load_resume(path, trainer=trainer, rng=rng) if path.exists() else 0
    dataset = load_digits(config.network.image_size)
    low, high = trainer.image_range
    images = dataset.images / 255.0 * (high - low) + low
    return _Run(config=config, folder=folder, dataset=dataset, images=images, trainer=trainer, rng=rng, step=step)


@contextmanager
def _compute_threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
