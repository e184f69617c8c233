"""Start from the weights of another run: every tensor that fits by name and shape is taken, the others start fresh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ganvas_core.cli import UsageError
from training.config import TrainConfig
from training.families.family import Trainer
from training.run.checkpoint import CheckpointError, load_model, read_info
from training.run.hooks import before_update
from training.run.info import CheckpointInfo
from training.run.resume import RESUME_NAME

__all__ = ["Transfer", "check_family", "freeze", "frozen_parameters", "take_weights"]

MIN_TAKEN = 0.05
"""A smaller share of the generator's weights is no start from another model."""


@dataclass(kw_only=True)
class Transfer:
    """What a run took from another model."""

    source: str
    """The source's preset, family and kimg."""
    sha256: str
    """Of the source's model.safetensors."""
    trained_with_features: tuple[str, ...]
    """As the source's CheckpointInfo has it."""
    taken: list[str] = field(default_factory=list)
    """Tensors that were copied."""
    rows: dict[str, int] = field(default_factory=dict)
    """Tensors of which the rows of classes with the same name were copied, and how many."""
    fresh: list[str] = field(default_factory=list)
    """Tensors that start from random numbers: of another shape, or not in the source."""

    def __str__(self) -> str:
        """Two or three lines for the user."""
        lines = [f"from {self.source}: took {len(self.taken)} tensors"]
        lines += [f"  {name}: the rows of {count} classes by their names" for name, count in self.rows.items()]
        if self.fresh:
            shown = ", ".join(self.fresh[:6]) + (", …" if len(self.fresh) > 6 else "")
            lines.append(f"  {len(self.fresh)} start fresh: {shown}")
        return "\n".join(lines)


def take_weights(source: Path, trainer: Trainer, config: TrainConfig, labels: tuple[str, ...]) -> Transfer:
    """Copy into a fresh trainer what fits of a checkpoint; optimizers start fresh.

    Averages and networks start from the source's averages; what no sampler needs (the discriminator) comes from its
    resume state, where the folder has one.

    Args:
        labels: class names of the new run.
    Raises:
        CheckpointError: the source cannot be read.
        UsageError: it is of another family, or hardly anything fits.
    """
    check_family(read_info(source), source, config)
    model = load_model(source)
    info = model.info
    transfer = Transfer(
        source=f"{info.preset} ({info.family}, {info.kimg:g} kimg)",
        sha256=model.sha256,
        trained_with_features=info.trained_with_features,
    )
    averaged = {"generator": model.generator.state_dict()}
    if model.encoder is not None:
        averaged["encoder"] = model.encoder.state_dict()
    others = _resume_tensors(source / RESUME_NAME)
    for name, module in trainer.modules.items():
        prefix = f"module.{name}."
        found = averaged.get(name.removesuffix("_ema")) or {
            key.removeprefix(prefix): value for key, value in others.items() if key.startswith(prefix)
        }
        _copy(found, module, name, transfer, (info.labels, labels))
    _check_enough(transfer, trainer.modules["generator"], source, info)
    return transfer


def check_family(info: CheckpointInfo, source: Path, config: TrainConfig) -> None:
    """
    Raises:
        UsageError: a checkpoint is of another family than the run that is to start from it.
    """
    if info.family != config.family:
        raise UsageError(
            f"--from: {source} is a {info.family}, and {config.preset} is a {config.family}: only one family has the "
            "same networks. Choose another preset or another checkpoint."
        )


def frozen_parameters(discriminator: nn.Module, num_layers: int) -> list[nn.Parameter]:
    """Parameters of the discriminator's first layers, those that see the image: FreezeD (arXiv:2002.10964).

    A layer is a module that has parameters of its own, in the order of their declaration.

    Raises:
        UsageError: there are not more than num_layers layers.
    """
    layers = [module for module in discriminator.modules() if list(module.parameters(recurse=False))]
    if num_layers >= len(layers):
        raise UsageError(
            f"frozen_discriminator_layers must be below the discriminator's {len(layers)} layers; got {num_layers}."
        )
    return [parameter for layer in layers[:num_layers] for parameter in layer.parameters(recurse=False)]


def freeze(optimizers: Mapping[str, torch.optim.Optimizer], parameters: list[nn.Parameter]) -> None:
    """Let no optimizer update these: their gradients are dropped right before each update."""
    frozen = set(parameters)

    def drop_gradients(optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in frozen:
                    parameter.grad = None

    for optimizer in optimizers.values():
        before_update(optimizer, drop_gradients)


def _resume_tensors(path: Path) -> dict[str, Tensor]:
    """The networks in a resume state; none where there is no such file."""
    try:
        return dict(safetensors.torch.load(path.read_bytes())) if path.is_file() else {}
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"--from: {path} cannot be read: {error}. Delete it to start without it.") from None


@torch.no_grad()
def _copy(
    found: Mapping[str, Tensor],
    module: nn.Module,
    name: str,
    transfer: Transfer,
    labels: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    """Copy what fits of `found` into one network.

    Args:
        labels: class names of the source and of the new run.
    """
    old_labels, new_labels = labels
    for key, tensor in module.state_dict().items():
        full, source = f"{name}.{key}", found.get(key)
        if source is None:
            transfer.fresh.append(full)
        elif _is_table(source, old_labels) and _is_table(tensor, new_labels) and source.shape[1:] == tensor.shape[1:]:
            # A row a class: the same number in another set is another class.
            shared = [(old_labels.index(label), row) for row, label in enumerate(new_labels) if label in old_labels]
            for old_row, row in shared:
                tensor[row].copy_(source[old_row])
            if old_labels == new_labels:
                transfer.taken.append(full)
            elif shared:
                transfer.rows[full] = len(shared)
            else:
                transfer.fresh.append(full)
        elif source.shape == tensor.shape and source.dtype == tensor.dtype:
            tensor.copy_(source)
            transfer.taken.append(full)
        else:
            transfer.fresh.append(full)


def _is_table(tensor: Tensor, labels: tuple[str, ...]) -> bool:
    return bool(labels) and tensor.ndim == 2 and len(tensor) == len(labels)


def _check_enough(transfer: Transfer, generator: nn.Module, source: Path, info: CheckpointInfo) -> None:
    sizes = {f"generator.{key}": tensor.numel() for key, tensor in generator.state_dict().items()}
    share = sum(sizes.get(name, 0) for name in transfer.taken) / sum(sizes.values())
    if share < MIN_TAKEN:
        raise UsageError(
            f"--from: {source} gives {share:.0%} of the generator's weights: the networks are too different. Use its "
            f"network settings ({info.network}), or start without --from."
        )
