"""The resume state: everything but the options, so that a resumed run ends in the same bits as an uninterrupted one.

One safetensors file: weights, averages, optimizer moments and the random stream as tensors, the step in its header.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ganvas_core.files import write_atomic
from training.families.family import Trainer
from training.run.checkpoint import CheckpointError

__all__ = ["RESUME_NAME", "load_resume", "read_step", "save_resume"]

RESUME_NAME = "resume.safetensors"
FORMAT = 2
"""Format 1 named the networks otherwise."""
ADAM_KEYS = ("step", "exp_avg", "exp_avg_sq")


def save_resume(path: Path, *, step: int, trainer: Trainer, rng: torch.Generator) -> None:
    """Write the state after `step` ≥ 1 steps, whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    tensors = {"rng": rng.get_state()}
    for name, module in trainer.modules.items():
        tensors |= {f"module.{name}.{key}": tensor for key, tensor in module.state_dict().items()}
    for name, optimizer in trainer.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{key}": moments[key] for key in ADAM_KEYS}
    tensors |= {f"state.{name}": torch.tensor(value, dtype=torch.float64) for name, value in trainer.state.items()}
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": str(FORMAT), "step": str(step)}
    write_atomic(path, safetensors.torch.save(contiguous, metadata=metadata))


def read_step(path: Path) -> int:
    """The step that a resume state was saved after.

    Raises:
        CheckpointError: the file is no resume state of a format this release reads.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        version, step = int(metadata["format"]), int(metadata["step"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _damaged(path, error) from None
    if version != FORMAT:
        remedy = "Upgrade Ganvas." if version > FORMAT else "Finish the run with the release that started it."
        raise CheckpointError(f"{path} has format {version}; this release reads format {FORMAT}. {remedy}")
    return step


def load_resume(path: Path, *, trainer: Trainer, rng: torch.Generator) -> int:
    """Put a saved state into a fresh trainer and random stream; returns the step to continue from.

    Raises:
        CheckpointError: the file is truncated, of a newer format, or of other networks.
    """
    step = read_step(path)
    try:
        tensors = safetensors.torch.load(path.read_bytes())
        for name, module in trainer.modules.items():
            module.load_state_dict(_take(tensors, f"module.{name}."))
        for name, optimizer in trainer.optimizers.items():
            _load_adam(optimizer, _take(tensors, f"optimizer.{name}."))
        trainer.load_state({name: value.item() for name, value in _take(tensors, "state.").items()})
        rng.set_state(tensors["rng"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from None
    return step


def _take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_adam(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give every parameter its moments, laid out in memory as the parameter is: the layout decides the rounding."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        moments = {key: tensors[f"{index}.{key}"] for key in ADAM_KEYS}
        for key in ("exp_avg", "exp_avg_sq"):
            if moments[key].shape != parameter.shape:
                raise ValueError(f"{index}.{key} has shape {list(moments[key].shape)}, not {list(parameter.shape)}")
            moments[key] = torch.empty_like(parameter).copy_(moments[key])
        optimizer.state[parameter] = moments


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(f"{path} is not a usable resume state: {reason}. Start again with --overwrite.")
