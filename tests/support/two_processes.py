"""A tiny run for `torchrun --nproc-per-node 2 -m tests.support.two_processes FOLDER`.

Without batch norm, whose statistics are each process's own, it must come out as in one process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.support.training import tiny_config
from training.config import TrainConfig
from training.loop import train
from training.run.distributed import joined_processes
from training.run.folder import create
from training.seeds import sub_seed

__all__ = ["JointNoise", "config", "without_batch_norm"]


def config(**options: Any) -> TrainConfig:
    """Twelve steps with clipped gradients, which only the joint gradient is clipped by alike."""
    return tiny_config("dcgan", **({"clip_norm": 0.1, "augment": "none", "save_kimg": 0.1, "seed": 3} | options))


class NoNorm(nn.BatchNorm2d):
    """Scales and shifts each channel, without statistics of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


@contextmanager
def without_batch_norm() -> Iterator[None]:
    with mock.patch.object(nn, "BatchNorm2d", NoNorm):
        yield


class JointNoise(TorchFunctionMode):
    """One process draws what `size` processes would draw, each of its own stream, one after the other in the batch."""

    def __init__(self, seed: int, *, size: int) -> None:
        super().__init__()
        self.streams = [torch.Generator().manual_seed(sub_seed(seed, "noise", rank)) for rank in range(size)]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.randn or kwargs.get("generator") is None:
            return func(*args, **kwargs)
        num_images, *shape = args
        draws: list[Tensor] = [
            func(num_images // len(self.streams), *shape, **(kwargs | {"generator": stream})) for stream in self.streams
        ]
        return torch.cat(draws)


def main(folder: Path) -> None:
    with joined_processes("cpu") as (processes, _), without_batch_norm():
        if processes.is_first:
            create(folder, config(), overwrite=False)
        processes.wait()
        train(config(), folder, processes=processes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
