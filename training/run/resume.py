"""The resume state: everything but the options, so that a resumed run ends in the same bits as an uninterrupted one.

One safetensors file in each kept checkpoint: weights, averages, optimizer moments, the trainer's small numbers and the
random streams as tensors; where the run stands in its header.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from training.families.family import Trainer
from training.run.checkpoint import CheckpointError

__all__ = ["RESUME_NAME", "Position", "dump_resume", "load_resume", "read_position", "state_tensors"]

RESUME_NAME = "resume.safetensors"
FORMAT = 3
"""Format 2 lay beside the checkpoint, without the random streams of several processes."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands."""

    step: int
    """Steps done."""
    num_rollbacks: int = 0
    """How often it diverged and was taken back."""
    learning_rate_factor: float = 1.0
    """What every learning rate is multiplied by since."""


def state_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Everything that a trainer has learned: weights, averages, optimizer moments, its small numbers."""
    tensors = {f"state.{name}": torch.tensor(value, dtype=torch.float64) for name, value in trainer.state.items()}
    for name, module in trainer.modules.items():
        tensors |= {f"module.{name}.{key}": tensor for key, tensor in module.state_dict().items()}
    for name, optimizer in trainer.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{key}": value for key, value in moments.items()}
    return tensors


def dump_resume(position: Position, tensors: Mapping[str, Tensor], rng_states: list[Tensor]) -> bytes:
    """The file's bytes.

    Args:
        tensors: as state_tensors gives them.
        rng_states: the state of each process's random stream, by its rank.
    """
    streams = {f"rng.{rank}": state for rank, state in enumerate(rng_states)}
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in (streams | dict(tensors)).items()}
    header = {"format": str(FORMAT)} | {name: repr(value) for name, value in dataclasses.asdict(position).items()}
    return bytes(safetensors.torch.save(here, metadata=header))


def read_position(path: Path) -> Position:
    """Where the run stood when a resume state was saved.

    Raises:
        CheckpointError: the file is no resume state of a format this release reads.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        version = int(header["format"])
        if version == FORMAT:
            return Position(
                step=int(header["step"]),
                num_rollbacks=int(header["num_rollbacks"]),
                learning_rate_factor=float(header["learning_rate_factor"]),
            )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _damaged(path, error) from None
    remedy = "Upgrade Ganvas." if version > FORMAT else "Finish the run with the release that started it."
    raise CheckpointError(f"{path} has format {version}; this release reads format {FORMAT}. {remedy}")


def load_resume(path: Path, *, trainer: Trainer, rng: torch.Generator, rank: int, num_processes: int) -> Position:
    """Put a saved state into a fresh trainer and random stream; returns where the run stands.

    Raises:
        CheckpointError: the file is truncated, of another format, of other networks, or of another number of processes.
    """
    position = read_position(path)
    try:
        tensors = safetensors.torch.load(path.read_bytes())
        found = sum(name.startswith("rng.") for name in tensors)
        if found != num_processes:
            raise CheckpointError(
                f"{path} was saved by {found} processes, and this run has {num_processes}: each has its own random "
                f"numbers. Resume with as many (torchrun --nproc-per-node {found}), or start another run with --from."
            )
        for name, module in trainer.modules.items():
            module.load_state_dict(_take(tensors, f"module.{name}."))
        for name, optimizer in trainer.optimizers.items():
            _load_moments(optimizer, _take(tensors, f"optimizer.{name}."))
        trainer.load_state({name: float(value) for name, value in _take(tensors, "state.").items()})
        rng.set_state(tensors[f"rng.{rank}"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from None
    trainer.scale_learning_rate(position.learning_rate_factor)
    return position


def _take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give every parameter its moments, laid out in memory as the parameter is: the layout decides the rounding.

    A frozen parameter has none.
    """
    known: set[str] = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            index = len(known)
            known.add(str(index))
            moments = _take(tensors, f"{index}.")
            for key, value in moments.items():
                if value.ndim == 0:  # the number of updates: on the GPU only where the kernel reads it there
                    on_device = group.get("fused") or group.get("capturable")
                    moments[key] = value.to(parameter.device) if on_device else value
                elif value.shape == parameter.shape:
                    moments[key] = torch.empty_like(parameter).copy_(value)
                else:
                    raise ValueError(f"{index}.{key} has shape {list(value.shape)}, not {list(parameter.shape)}")
            if moments:
                optimizer.state[parameter] = moments
    if unknown := {name.partition(".")[0] for name in tensors} - known:
        raise ValueError(f"there are moments of parameter {min(unknown)}, which the optimizer does not have")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(
        f"{path} is not a usable resume state: {reason}. Continue from an earlier checkpoint with --resume-at, or "
        "start again with --overwrite."
    )
