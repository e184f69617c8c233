"""Several processes that train one model: each takes its part of every batch, and their gradients are averaged.

`torchrun --nproc-per-node 4 -m training train …` starts them. No DistributedDataParallel: a penalty on gradients needs
gradients of gradients, and a step runs the discriminator several times, which that wrapper does not allow. Instead the
optimizers average the gradients before they use them, in one message.

What is not as in one process with the joint batch: batch norm takes its statistics from the process's own part.
PyTorch's SyncBatchNorm exists for CUDA alone, so it is not used; the running statistics, which samples are made with,
are averaged over the processes whenever the run is saved.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ganvas_core.cli import UsageError
from training.run.hooks import before_update

__all__ = ["Processes", "joined_processes"]


class Processes:
    """The processes of a run, as one of them sees them; alone, every method does nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and speaks to the user."""
        return self.rank == 0

    def part(self, batch_size: int) -> slice:
        """Which images of a joint batch this process takes; batch_size is a multiple of `size`."""
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def average_gradients(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Let every optimizer average the gradients over the processes, before anything else looks at them."""
        if self.size == 1:
            return
        for optimizer in optimizers:
            before_update(optimizer, self._average_gradients)

    def average_buffers(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the mean of the running statistics."""
        if self.size > 1:
            self._average([b for module in modules for b in module.buffers() if b.is_floating_point()])

    def any(self, flags: Sequence[bool], device: torch.device | str = "cpu") -> list[bool]:
        """Each flag: is it raised in any process?"""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor([float(flag) for flag in flags], device=device)
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def mean(self, values: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Every value, averaged over the processes."""
        if self.size == 1 or not values:
            return dict(values)
        joint = torch.tensor(list(values.values()), dtype=torch.float32, device=device)
        distributed.all_reduce(joint)
        return dict(zip(values, (joint / self.size).tolist(), strict=True))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every process, by rank."""
        if self.size == 1:
            return [tensor]
        gathered: list[Any] = [None] * self.size
        distributed.all_gather_object(gathered, tensor)
        return gathered

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            distributed.barrier()

    def _average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._average([parameter.grad for parameter in parameters if parameter.grad is not None])

    @torch.no_grad()
    def _average(self, tensors: list[Tensor]) -> None:
        if not tensors:
            return
        joint = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(joint)
        joint /= self.size
        for tensor, mean in zip(tensors, torch.split(joint, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))


@contextmanager
def joined_processes(device: str) -> Iterator[tuple[Processes, str]]:
    """The processes that torchrun started, joined while this lasts, and this one's device; or this one alone.

    Raises:
        UsageError: there are more processes than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(), device
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UsageError(
                f"torchrun: {torch.cuda.device_count()} GPUs, and this is process {local_rank + 1} on them."
            )
        device = f"cuda:{local_rank}"
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()
