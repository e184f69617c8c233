"""Networks that make or take NHWC images, as the NCHW ones that export works with."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["ChannelsFirstInput", "ChannelsFirstOutput"]


class ChannelsFirstOutput(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs).permute(0, 3, 1, 2)


class ChannelsFirstInput(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(images.permute(0, 2, 3, 1))
