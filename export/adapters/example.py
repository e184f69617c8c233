"""An adapter: 20 lines that make any generator exportable."""

import torch
from torch import Tensor, nn

from export.adapters import Spec


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 3 * 24 * 32), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).reshape(-1, 3, 24, 32)  # type: ignore[no-any-return]


def adapter() -> tuple[nn.Module, Spec]:
    torch.manual_seed(0)  # your own: generator.load_state_dict(load_file("generator.safetensors"))
    return Generator(), Spec(latent_shape=(64,), image=(24, 32, 3), image_range=(-1.0, 1.0))
