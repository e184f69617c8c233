"""What a network of PyTorch's makes, in float32 and in float64, without a second copy of its weights in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.adapters.call import NetworkError, call_network
from export.progress import track
from export.surgery.sharing import share_weights

__all__ = ["float64_outputs", "torch_outputs"]


def torch_outputs(network: nn.Module, rows: list[Tensor], *, batch: int) -> tuple[NDArray[Any], ...]:
    """What a network of PyTorch's makes of every row, a few at a time.

    Raises:
        NetworkError: it raised.
    """
    parts = []
    with torch.inference_mode():
        for start in track(range(0, len(rows[0]), batch), f"PyTorch in {str(rows[0].dtype).removeprefix('torch.')}"):
            made = call_network("network", network, [tensor[start : start + batch] for tensor in rows])
            parts.append([made] if isinstance(made, Tensor) else list(made))
    return tuple(torch.cat(outputs).numpy() for outputs in zip(*parts, strict=True))


def float64_outputs(network: nn.Module, rows: list[Tensor], *, batch: int) -> tuple[NDArray[Any], ...]:
    """The same in float64, with the weights of one layer at a time in float64.

    A network that reads the weights of a layer without calling it is converted whole.

    Raises:
        NetworkError: it cannot run in float64, because it names a type itself.
    """
    rows = [row.double() if row.is_floating_point() else row for row in rows]
    try:
        with _float64_while_called(network):
            outputs = torch_outputs(network, rows, batch=batch)
        if all(output.dtype == np.float64 for output in outputs):
            return outputs
    except NetworkError:
        pass
    return torch_outputs(share_weights(network).double(), rows, batch=batch)


@contextmanager
def _float64_while_called(network: nn.Module) -> Iterator[None]:
    """Give each module its own weights in float64 from the start of its forward to the end."""
    saved: dict[nn.Module, list[tuple[dict[str, Any], str, Tensor]]] = {}

    def convert(module: nn.Module, _: object) -> None:
        kept = saved.setdefault(module, [])
        own: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in own:
            for name, tensor in tensors.items():
                if tensor is not None and tensor.dtype == torch.float32:
                    kept.append((tensors, name, tensor))
                    double = tensor.detach().double()
                    tensors[name] = nn.Parameter(double, requires_grad=False) if tensors is own[0] else double

    def restore(module: nn.Module, *_: object) -> None:
        for tensors, name, tensor in saved.pop(module, []):
            tensors[name] = tensor

    handles = []
    for module in network.modules():
        handles.append(module.register_forward_pre_hook(convert))
        handles.append(module.register_forward_hook(restore, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in list(saved):
            restore(module)
