"""What every family's training run is configured by. A family's own configuration adds to it: training/families."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ganvas_core.cli import Cli

__all__ = ["STRICT", "NetworkConfig", "Positive", "TrainConfig"]

STRICT = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)
"""For configurations and for files read back from disk: unknown fields and text for a number are errors."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@runtime_checkable
class NetworkConfig(Protocol):
    """Constructor arguments of a family's networks: a pydantic dataclass, stored as `network` in model.json."""

    @property
    def num_classes(self) -> int:
        """0: unconditional."""
        ...

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        ...


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """Every field but the first three is an option of `./ganvas train`: its docstring is the help."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    preset: str
    """Name of the preset that the run started from."""
    family: str
    """Key of training.families.FAMILIES."""
    network: NetworkConfig
    """Constructor arguments of the networks; a family narrows the type."""
    dataset: Annotated[str, Field(min_length=1), Cli(flag="--data")] = "digits"
    """What to train on: a data set's name."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the run, for weights, noise and image order; it has nothing to do with the seeds of images."""
    # The whole budget, so that a run never depends on the clock.
    total_kimg: Annotated[Positive, Cli(flag="--kimg")]
    """Thousands of images to train on."""
    batch_size: Annotated[int, Field(ge=2, le=4096)]
    """Images per step."""
    learning_rate: Positive
    """Learning rate of Adam; in a GAN, of the generator."""
    # A CPU that emulates bf16 is several times slower. Weights, losses and the checkpoint are float32 either way.
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Cli(env="GANVAS_TRAIN_PRECISION")] = "fp32"
    """Precision of the convolutions in training; bf16 is faster on a CPU that has it."""
    # Networks this small gain from a second thread only on an idle machine: elsewhere each layer waits for the slower
    # one. Another number rounds differently, so a resumed run needs the same.
    threads: Annotated[int, Field(ge=1, le=256), Cli(env="GANVAS_TRAIN_THREADS")] = 1
    """PyTorch's compute threads."""
    save_kimg: Positive
    """Save every so many thousand images."""
    samples_kimg: Positive
    """Draw samples every so many thousand images."""

    @property
    def num_steps(self) -> int:
        return max(1, round(self.total_kimg * 1000 / self.batch_size))

    def kimg(self, step: int) -> float:
        """Thousands of images seen after `step` steps."""
        return step * self.batch_size / 1000
