"""One training run: data, trainer, random state and position, and all that is done to them between two steps."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ganvas_core.cli import UsageError
from ganvas_core.provenance import image_text, write_image
from training.config import TrainConfig
from training.data import load_dataset
from training.data.loader import Loader
from training.device import describe_device
from training.evaluation.quick import quick
from training.families import FAMILIES
from training.families.family import Trainer
from training.prior import fit_prior
from training.run.checkpoint import read_info, save_model
from training.run.checkpoints import Checkpoints, name_at
from training.run.curves import Curves
from training.run.distributed import Processes
from training.run.folder import SAMPLES_NAME, git_revision
from training.run.health import DivergedError, Divergence, check_diversity, check_finite, diversity
from training.run.info import CheckpointInfo, DatasetInfo, ImageFormat
from training.run.report import StepReport
from training.run.resume import RESUME_NAME, Position, dump_resume, load_resume, state_tensors
from training.run.samples import reconstruction_grid, sample_grid
from training.run.transfer import freeze, frozen_parameters, take_weights
from training.seeds import sub_seed

__all__ = ["Run"]

LEARNING_RATE_CUT = 0.5
"""What every learning rate is multiplied by when a run that diverged is taken back."""
NUM_RECONSTRUCTIONS = 10
MIN_HELD_OUT = 8
"""Fewer held-out images measure nothing: the metrics look at the nearest five."""


class Run:
    """A context manager. `start` makes or loads the trainer; then the loop calls the rest."""

    trainer: Trainer
    rng: torch.Generator

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        device: str,
        processes: Processes,
        curves: Curves,
        say: Callable[[str], None],
    ) -> None:
        if config.batch_size % processes.size:
            raise UsageError(
                f"batch_size {config.batch_size} cannot be shared evenly by {processes.size} processes: "
                f"--set batch_size={max(2, config.batch_size // processes.size) * processes.size}."
            )
        if config.precision == "fp16" and processes.size > 1:
            raise UsageError("precision fp16 leaves out steps, each process its own: with several take bf16.")
        self.config = config
        self.folder = folder
        self.device = torch.device(device)
        self.processes = processes
        self.curves = curves
        self.say = say
        self.image_range = FAMILIES[config.family].image_range
        self.checkpoints = Checkpoints(folder, num_last=config.num_checkpoints)
        network = config.network
        self.split = load_dataset(
            config.data, image_shape=network.image_shape, num_classes=network.num_classes, options=config
        )
        self.labels = self.split.train.label_names if network.num_classes else ()
        self.loader = Loader(
            self.split.train,
            batch_size=config.batch_size,
            seed=sub_seed(config.seed, "order"),
            image_range=self.image_range,
            with_labels=bool(network.num_classes),
            device=self.device,
            part=processes.part(config.batch_size),
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.loader.close()

    @property
    def step(self) -> int:
        return self.position.step

    @property
    def kimg(self) -> float:
        return self.config.kimg(self.step)

    def start(self, resume_at: Path | None) -> None:
        """Begin at the newest checkpoint, or at the one given, or else with new weights."""
        if self.processes.is_first:
            self.checkpoints.clean()
            for note in self.split.notes:
                self.say(f"data: {note}")
            if resume_at is not None:
                self.checkpoints.drop_after(resume_at)
        self.processes.wait()
        self._begin(resume_at or self.checkpoints.newest())

    def _begin(self, checkpoint: Path | None) -> None:
        """A new trainer on the device, with the state of a checkpoint or of the run's seed."""
        config = self.config
        with torch.random.fork_rng(devices=[]):  # PyTorch's global random stream stays as it was.
            torch.manual_seed(sub_seed(config.seed, "weights"))
            self.trainer = FAMILIES[config.family].trainer(config, len(self.split.train))
        for module in self.trainer.modules.values():  # made on the CPU, so that every device starts from the same
            module.to(self.device)
        rank, optimizers = self.processes.rank, self.trainer.optimizers
        self.rng = torch.Generator(self.device).manual_seed(sub_seed(config.seed, "noise", rank))
        self.processes.average_gradients(optimizers.values())

        # Load the state, of this run or of another one.
        self.started_from = ""
        inherited: tuple[str, ...] = ()
        if checkpoint is not None:
            self.position = load_resume(
                checkpoint / RESUME_NAME,
                trainer=self.trainer,
                rng=self.rng,
                rank=rank,
                num_processes=self.processes.size,
            )
            info = read_info(checkpoint)
            self._compare_data(info.dataset)
            self.started_from, inherited = info.started_from, info.trained_with_features
        else:
            self.position = Position(step=0)
            if config.start_from is not None:
                transfer = take_weights(Path(config.start_from), self.trainer, config, self.labels)
                self.started_from, inherited = transfer.sha256, transfer.trained_with_features
                self.say(str(transfer))
        self.trained_with_features = tuple(sorted({*config.trained_with_features, *inherited}))
        if config.frozen_discriminator_layers:
            freeze(optimizers, self._frozen_parameters(config.frozen_discriminator_layers))
        if config.compile:
            for name in {"generator", "encoder", "discriminator"} & self.trainer.modules.keys():
                self.trainer.modules[name].compile()
        self.curves.start_at(self.step)

    def _compare_data(self, before: DatasetInfo) -> None:
        """Say so where a run goes on with other images than it was saved with."""
        train = self.split.train
        if before.sha256 != train.sha256:
            self.say(
                f"data: {train.name} has changed since the run was saved: {before.size:,} images to train on then, "
                f"{len(train):,} now. Some that were held out may be trained on."
            )

    def _frozen_parameters(self, num_layers: int) -> list[torch.nn.Parameter]:
        if "discriminator" not in self.trainer.modules:
            raise UsageError(f"frozen_discriminator_layers: a {self.config.family} has no discriminator.")
        return frozen_parameters(self.trainer.modules["discriminator"], num_layers)

    def advance(self) -> StepReport:
        """Take one step.

        Raises:
            Divergence: a loss is NaN or infinite, in any process.
        """
        start_s = time.perf_counter()
        images, labels = self.loader.batch(self.step)
        loaded_s = time.perf_counter()
        losses = self.trainer.step(self.step, images, labels, self.rng)
        done_s = time.perf_counter()
        self.position = dataclasses.replace(self.position, step=self.step + 1)
        wrong = [f"the {name} loss is {value}" for name, value in losses.items() if not math.isfinite(value)]
        if self.processes.any([bool(wrong)], self.device)[0]:
            raise Divergence(wrong[0] if wrong else "a loss is not finite in another process")
        report = StepReport(step=self.step, losses=losses, step_s=done_s - loaded_s, loader_s=loaded_s - start_s)
        self.curves.on_step(report)
        return report

    def is_due(self, interval_kimg: float) -> bool:
        """True on the last step, and on the first one at or past each multiple of the interval."""
        kimg, before = self.kimg, self.config.kimg(self.step - 1)
        return self.step == self.config.num_steps or kimg // interval_kimg > before // interval_kimg

    def is_finished(self) -> bool:
        """Whether the last step is done, and saved."""
        newest = self.checkpoints.newest()
        return self.step >= self.config.num_steps and newest is not None and newest.name == name_at(self.kimg)

    def take_back(self, divergence: Divergence) -> None:
        """Go on from the newest checkpoint, or from the start, with lower learning rates.

        Raises:
            DivergedError: the run was taken back before.
        """
        found = f"{divergence} at {self.kimg:.1f} kimg"
        if self.position.num_rollbacks:
            raise DivergedError(
                f"the run diverged again: {found}, at {self.position.learning_rate_factor:g} times the learning rate. "
                f"What was saved is intact. Start another run with a lower rate (--set learning_rate="
                f"{self.config.learning_rate * LEARNING_RATE_CUT / 2:g}) or a stronger stabilizer (docs/training.md)."
            )
        self._begin(self.checkpoints.newest())
        self.position = dataclasses.replace(
            self.position, num_rollbacks=1, learning_rate_factor=self.position.learning_rate_factor * LEARNING_RATE_CUT
        )
        self.trainer.scale_learning_rate(LEARNING_RATE_CUT)
        self.curves.rollback(self.step, found)
        self.say(f"diverged: {found}. Back at {self.kimg:.1f} kimg, at {LEARNING_RATE_CUT:g} times the learning rate.")

    def save_and_stop(self) -> None:
        """Save where the run stands, without measuring, unless it stands at a checkpoint."""
        newest = self.checkpoints.newest()
        if self.step == 0 or (newest is not None and newest.name == name_at(self.kimg)):
            return
        try:
            self.save(measured=False)
        except Divergence as divergence:
            self.say(f"not saved at {self.kimg:.1f} kimg: {divergence}. The last checkpoint is intact.")

    def save(self, *, measured: bool = True) -> None:
        """Write a checkpoint with its resume state, if the run is healthy.

        Raises:
            Divergence: it is not.
        """
        trainer, processes = self.trainer, self.processes
        processes.average_buffers(trainer.modules.values())
        trainer.load_state(processes.mean(trainer.state, self.device))
        if trainer.encoder_ema is not None:
            generators = [trainer.modules["generator"], trainer.generator_ema]
            fit_prior(trainer.encoder_ema, generators, self.split.train, self.image_range)
        tensors = state_tensors(trainer)
        check_finite(tensors)
        metrics = {"diversity": round(self._diversity(), 4)}
        newest = self.checkpoints.newest()
        check_diversity(metrics["diversity"], read_info(newest).metrics.get("diversity") if newest else None)
        rng_states = processes.gather(self.rng.get_state())
        if processes.is_first:
            if measured:
                metrics |= self._measure()
            save_model(
                self.checkpoints.folder / name_at(self.kimg),
                self._info(metrics),
                trainer.generator_ema,
                trainer.encoder_ema,
                others={RESUME_NAME: dump_resume(self.position, tensors, rng_states)},
            )
            self.checkpoints.settle()
            self.curves.metrics(self.step, metrics)
        processes.wait()

    def draw(self) -> None:
        """Write a sample grid, and reconstructions where there is an encoder."""
        if not self.processes.is_first:
            return
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
        self.curves.image(self.step, "samples", grid)
        if trainer.encoder_ema is not None:
            low, high = self.image_range
            held_out = self.split.held_out
            images = (held_out.images[:NUM_RECONSTRUCTIONS] / 255.0 * (high - low) + low).to(self.device)
            labels = None
            if network.num_classes and held_out.labels is not None:
                labels = held_out.labels[:NUM_RECONSTRUCTIONS].to(self.device)
            strip = reconstruction_grid(trainer.encoder_ema, trainer.generator_ema, images, labels, self.image_range)
            description = (
                "Upper row: held-out images of the data set. Lower row: the AI-generated reconstruction of each."
            )
            write_image(folder / f"reconstructions-{stamp}.png", strip, image_text(description, common))
            self.curves.image(self.step, "reconstructions", strip)

    def _diversity(self) -> float:
        return diversity(
            self.trainer.generator_ema,
            self.split.train,
            latent_shape=self.config.network.latent_shape,
            num_classes=self.config.network.num_classes,
            image_range=self.image_range,
        )

    def _measure(self) -> dict[str, float]:
        network = self.config.network
        if len(self.split.held_out) < MIN_HELD_OUT:
            return {}
        return quick(
            self.split,
            self.trainer.generator_ema,
            self.trainer.encoder_ema,
            latent_shape=network.latent_shape,
            num_classes=network.num_classes,
            image_range=self.image_range,
            trained_with=self.trained_with_features,
        )

    def _info(self, metrics: dict[str, float]) -> CheckpointInfo:
        config, dataset = self.config, self.split.train
        height, width, channels = config.network.image_shape
        return CheckpointInfo(
            family=config.family,
            preset=config.preset,
            network=config.network,
            image=ImageFormat(height=height, width=width, channels=channels, range=self.image_range),
            labels=self.labels,
            dataset=DatasetInfo(
                name=dataset.name,
                size=len(dataset),
                sha256=dataset.sha256,
                license=dataset.license,
                source=dataset.source,
            ),
            metrics=metrics,
            kimg=self.kimg,
            seed=config.seed,
            started_from=self.started_from,
            trained_with_features=self.trained_with_features,
            num_rollbacks=self.position.num_rollbacks,
            device=describe_device(self.device),
            git_revision=git_revision(),
            torch=torch.__version__,
        )
