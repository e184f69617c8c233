"""What every family's training run is configured by. A family's own configuration adds to it: training/families."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from training.data.options import DataOptions

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
class TrainConfig(DataOptions):
    """Every field is a key of a preset, and of `./ganvas train --set key=value`: its docstring is the help."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    preset: str
    """Name of the preset that the run started from."""
    family: str
    """Key of training.families.FAMILIES."""
    network: NetworkConfig
    """Constructor arguments of the networks; a family narrows the type."""
    data: Annotated[str, Field(min_length=1)]
    """What to train on: a data set that `./ganvas data list` shows, hf:NAME, or a path to images of your own."""
    start_from: str | None = None
    """Checkpoint folder of the same family to start from; none: random weights."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the run, for weights, noise and image order; it has nothing to do with the seeds of images."""
    # The whole budget, so that a run never depends on the clock.
    total_kimg: Positive
    """Thousands of images to train on."""
    batch_size: Annotated[int, Field(ge=2, le=65536)]
    """Images per step, over all processes."""
    learning_rate: Positive
    """Learning rate of Adam; in a GAN, of the generator."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")] = "auto"
    """Where to compute: cpu, cuda, cuda:1, mps; auto: the best that there is."""
    # A CPU that emulates bf16 is several times slower. Weights, losses and the checkpoint are float32 either way.
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the convolutions in training; bf16 is faster on a GPU, and on a CPU that has it."""
    compile: bool = False
    """Compile the networks with torch.compile: minutes at the start, faster steps on a GPU."""
    # Networks this small gain from a second thread only on an idle machine: elsewhere each layer waits for the slower
    # one. Another number rounds differently, so a resumed run needs the same.
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """PyTorch's compute threads."""
    save_kimg: Positive
    """Save and measure a checkpoint every so many thousand images."""
    num_checkpoints: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Checkpoints to keep, the newest ones; the best and the one of the lowest distance are kept besides."""
    samples_kimg: Positive
    """Draw samples every so many thousand images."""
    tensorboard: bool = True
    """Write logs for TensorBoard too, where it is installed."""
    frozen_discriminator_layers: Annotated[int, Field(ge=0)] = 0
    """First layers of the discriminator that keep their weights, with start_from: FreezeD, for few images."""

    def __post_init__(self) -> None:
        if self.frozen_discriminator_layers and self.start_from is None:
            raise ValueError("frozen_discriminator_layers needs start_from: random layers are of no use frozen.")

    @property
    def trained_with_features(self) -> tuple[str, ...]:
        """Names of the frozen features that the loss looks at: they must not judge the model."""
        return ()

    @property
    def num_steps(self) -> int:
        return max(1, round(self.total_kimg * 1000 / self.batch_size))

    def kimg(self, step: int) -> float:
        """Thousands of images seen after `step` steps."""
        return step * self.batch_size / 1000
