"""PyTorch's network and its graph: folded batch norm, symbolic batch, metadata stripped."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.adapters.source import Source
from export.errors import GateError
from export.graph.build import Graphs
from export.graph.network import encoder_graph, network_graph
from export.surgery.batch_norm import fold_batch_norm
from ganvas_core.names import FP32_FILE


class Net(nn.Module):
    """Both kinds of convolution under batch norm, with and without bias, and a norm that cannot be folded."""

    def __init__(self, *, loose_norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 1, 0, bias=False), nn.BatchNorm2d(6, eps=0.1), nn.ReLU())
        self.conv = nn.Conv2d(6, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.loose = nn.BatchNorm2d(5) if loose_norm else nn.Identity()
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean = torch.randn(layer.num_features)
                layer.running_var = torch.rand(layer.num_features) + 0.1
                nn.init.normal_(layer.weight)
                nn.init.normal_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.loose(torch.relu(self.norm(self.conv(self.up(z[:, :, None, None]))))))


ATOL = 1e-5
"""Of images within [-1, 1]: other processors add in another order, and a wrong graph is further off by far."""


def source_of(network: nn.Module) -> Source:
    """Of a network with 4 latent dimensions."""
    return Source(generator=network, latent_shape=(4,), image=(4, 4, 5), image_range=(-1.0, 1.0))


def test_fold_batch_norm_keeps_the_function_and_leaves_the_network_as_it_was() -> None:
    network = Net().eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_batch_norm(network)
    z = torch.randn(7, 4)
    with torch.no_grad():
        torch.testing.assert_close(folded(z), network(z), atol=ATOL, rtol=0)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_fold_batch_norm_leaves_a_norm_that_follows_no_convolution() -> None:
    network = Net(loose_norm=True).eval()
    folded = fold_batch_norm(network)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules()) == 1


def test_network_graph_agrees_with_torch_in_any_batch() -> None:
    network = Net().eval()
    model = network_graph(source_of(network))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        z = torch.randn(batch, 4)
        psi = torch.rand(batch, 1)
        (made,) = session.run(None, {"latent": z.numpy(), "truncation": psi.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(made, network(z * psi).numpy(), atol=ATOL)


def test_encoder_graph_has_both_outputs_by_name() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 6, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, logvar = self.conv(x).flatten(1).chunk(2, dim=1)
            return mean, logvar

    model = encoder_graph(Encoder().eval(), image=(4, 4, 1))
    assert [value.name for value in model.graph.output] == ["mean", "logvar"]


def test_network_graph_rejects_a_batch_that_came_out_constant() -> None:
    class Fixed(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.new_zeros(3, 1, 8, 8)

    with pytest.raises(GateError, match="batch dimension of image_float came out of torch's exporter as a constant"):
        network_graph(source_of(Fixed()))


def test_published_graph_holds_no_paths_and_names_nodes_after_modules(graphs: Graphs) -> None:
    graph = graphs.files["sample", FP32_FILE]
    data = graph.model.SerializeToString()
    assert b".py" not in data
    assert b"pkg.torch" not in data
    names = [node.name for node in graph.model.graph.node]
    assert "network/to_image/ConvTranspose" in names
    assert len(set(names)) == len(names)
