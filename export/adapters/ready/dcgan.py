"""The generator of PyTorch's DCGAN example, from the state dict of its `netG`, at any width and depth.

Source: github.com/pytorch/examples, dcgan/main.py: `main.0`, `main.1`, … are transposed convolutions, batch norms and
ReLUs in turn; the last convolution is followed by tanh.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from export.adapters.ready.request import Request
from export.adapters.spec import Spec
from export.adapters.weights import load_into
from export.errors import InputError

__all__ = ["adapter"]


class _Generator(nn.Module):
    def __init__(self, main: nn.Sequential) -> None:
        super().__init__()
        self.main = main

    def forward(self, z: Tensor) -> Any:
        return self.main(z)


def adapter(request: Request) -> tuple[nn.Module, Spec]:
    """Read widths and kernels from the shapes of the weights.

    Raises:
        InputError: the file cannot be read or holds no netG.
    """
    weights = {key.removeprefix("module."): tensor for key, tensor in request.read().items()}
    kernels = sorted(
        (int(key.split(".")[1]), tuple(tensor.shape))
        for key, tensor in weights.items()
        if key.startswith("main.") and key.endswith(".weight") and getattr(tensor, "ndim", 0) == 4
    )
    if len(kernels) < 2:
        raise InputError(
            f"--weights {request.weights} is no netG of PyTorch's DCGAN example: it has no main.0.weight, "
            "main.3.weight, … of four dimensions. Give that file, or write an adapter."
        )
    layers: list[nn.Module] = []
    size = 1
    for index, (_, (inner, outer, height, width)) in enumerate(kernels):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        size = (size - 1) * stride - 2 * padding + height
        layers.append(nn.ConvTranspose2d(inner, outer, (height, width), stride, padding, bias=False))
        layers += [nn.BatchNorm2d(outer), nn.ReLU()] if index < len(kernels) - 1 else [nn.Tanh()]
    network = _Generator(nn.Sequential(*layers))
    load_into(network, weights, ignore=(".num_batches_tracked",))
    first, last = kernels[0][1], kernels[-1][1]
    return network, Spec(latent_shape=(first[0], 1, 1), image=(size, size, last[1]))
