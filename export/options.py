"""What can be chosen about an export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from export.proof.cases import GOLDEN_SEEDS
from ganvas_core.cli import OPTIONS, Cli
from ganvas_core.names import DEFAULT_REPOSITORY, check_model_name

__all__ = ["CheckpointExportOptions", "ExportOptions"]


def _count(value: object) -> object:
    return 0 if value == "auto" else value


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class ExportOptions:
    """Options of an export from any source."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    name: str
    """Name of the model; a new version is added where it exists."""
    repository: Annotated[Path, Cli(env="GANVAS_REPOSITORY")] = DEFAULT_REPOSITORY
    """Model repository folder, made if missing."""
    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Images in one Triton batch."""
    instances: Annotated[int, BeforeValidator(_count), Field(ge=0, le=256), Cli(shown_default="auto")] = 0
    """Triton instances on the CPU: batches computed at once. auto or 0: of a sampler that takes its time, as many as
    the machine that serves it has cores; else one."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Compute threads of each instance on the CPU, and of the proof."""
    precision: Literal["fp32", "fp16", "auto"] = "auto"
    """auto: an fp16 file too, unless none passes its proof; fp16: the same, or an error; fp32: none."""
    fp32_nodes: Annotated[tuple[str, ...], Cli(flag="--fp32-node")] = ()
    """Node to keep in float32 in the fp16 file; may be given again. Others are found by search."""
    clip_weights: bool = False
    """Clip weights beyond 65504 in the fp16 file, each with a warning, instead of keeping their nodes in float32. The
    proof decides as always."""
    num_half_seeds: Annotated[int, Field(ge=16, le=65536)] = 256
    """Seeds that the fp16 file is proven for in half arithmetic, beside the corners of truncation and labels."""
    max_search_runs: Annotated[int, Field(ge=1, le=10000)] = 120
    """Runs of each network that the search for nodes to keep in float32 may take."""
    num_golden: Annotated[int, Field(ge=1, le=len(GOLDEN_SEEDS))] = 8
    """Golden seeds in the certificate, which serving makes again before it is ready."""
    num_parity_seeds: Annotated[int, Field(ge=1, le=4096)] = 32
    """Seeds that parity and batch invariance are proven for, the golden ones included."""

    def __post_init__(self) -> None:
        try:
            check_model_name(self.name)
        except ValueError as error:
            raise ValueError(f"--name {error}") from None
        if self.num_parity_seeds < self.num_golden:
            raise ValueError(
                f"--num-parity-seeds must be at least --num-golden, {self.num_golden}; got {self.num_parity_seeds}."
            )


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class CheckpointExportOptions(ExportOptions):
    """Options of the verb `export`."""

    checkpoint: Annotated[Path | None, Cli(positional=True)] = None
    """Checkpoint folder that `./ganvas train` wrote. Not with --adapter."""
    adapter: str | None = None
    """Network of another kind: a Python file of your own, or dcgan, diffusers-vae, biggan or stylegan2. Alone, it shows
    an example."""
    weights: Path | None = None
    """Weights for the adapter: .safetensors, or a PyTorch file of tensors alone; for some a folder."""
    image_size: str | None = None
    """HEIGHTxWIDTH of the images, for adapters that leave the choice: 48x72."""
    prior: Literal["auto", "normal", "mixture"] = "auto"
    """What the latents of a VAE are drawn from: the mixture of Gaussians in its checkpoint, or the standard normal.
    auto: the mixture if there is one."""
    trust_pickle: bool = False
    """Read weights that are more than tensors, which runs any code in the file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.checkpoint is None) == (self.adapter is None):
            raise ValueError("needs either CHECKPOINT or --adapter. `./ganvas export --adapter` shows an example.")
        if self.adapter is None:
            for flag, given in (
                ("--weights", self.weights),
                ("--image-size", self.image_size),
                ("--trust-pickle", self.trust_pickle),
            ):
                if given:
                    raise ValueError(f"{flag} is for --adapter; a checkpoint of ./ganvas train says it all itself.")
        elif self.prior != "auto":
            raise ValueError("--prior is for a checkpoint of ./ganvas train; a network of another kind has its own.")
        if self.image_size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.image_size):
            raise ValueError(f"--image-size must be HEIGHTxWIDTH, such as 48x72; got {self.image_size}.")
