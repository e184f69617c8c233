"""The float64 reference: the same as of a network that is converted whole, and the network is left as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from export.adapters.call import NetworkError
from export.proof.float64 import float64_outputs, torch_outputs


class Reaches(nn.Module):
    """Reads a layer's weight without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x * self.scale, self.layer.weight)


class Tied(nn.Module):
    """One layer, called twice, one call inside another's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor, depth: int = 2) -> Tensor:
        x = torch.tanh(self.layer(x))
        made: Tensor = self(x, depth - 1) if depth else x
        return made


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "layers": lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.2), nn.Linear(16, 8)),
    "reparametrised": lambda: nn.Sequential(weight_norm(nn.Linear(8, 8)), spectral_norm(nn.Linear(8, 8))),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "reaches": Reaches,
    "tied": Tied,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_layer_by_layer_gives_what_the_whole_network_gives(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    rows = [torch.randn(5, 8) if name != "attention" else torch.randn(5, 3, 8)]
    before = copy.deepcopy(network.state_dict())
    (wanted,) = torch_outputs(copy.deepcopy(network).double(), [rows[0].double()], batch=2)
    (made,) = float64_outputs(network, rows, batch=2)
    assert made.dtype == np.float64
    np.testing.assert_array_equal(made, wanted)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert all(tensor.dtype == torch.float32 for tensor in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_network_that_names_float32_itself_cannot() -> None:
    class Names(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.layer(x.float())
            return made

    network = Names().eval()
    with pytest.raises(NetworkError):
        float64_outputs(network, [torch.randn(2, 8)], batch=2)
    assert network.layer.weight.dtype == torch.float32
