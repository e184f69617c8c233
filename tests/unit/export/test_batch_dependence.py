"""A network whose images depend on their batch is rewritten, or pinned to one batch size, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from torch import Tensor, nn
from tritonclient.grpc import model_config_pb2 as triton

from export.adapters.source import Source
from export.errors import GateError
from export.graph.network import network_graph
from export.pipeline import export_model
from export.surgery.batch_invariance import (
    first_dependent_node,
    flatten_weight,
    invariance_feeds,
    make_batch_invariant,
    product_as_convolution,
)
from ganvas_core.interface import sample_inputs
from ganvas_core.names import FP32_FILE
from ganvas_core.session import CpuSession
from tests.unit.export.conftest import options

BATCHES = (1, 2, 3, 7, 8)
ATOL = 1e-5
"""Of images within [-1, 1]: how far products that are added up in another order may differ."""


class Network(nn.Module):
    """A flat latent of 64 to an 8x8 image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(1, 64, 48) / 8)
        self.heads = nn.Parameter(torch.randn(4, 64, 48) / 8)
        self.query = nn.Parameter(torch.randn(16, 48) / 8)
        self.to_image = nn.Linear(48, 192)


class Rewritable(Network):
    """[n, 1, K] times a constant of three dimensions: other bits for one row than for many."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.to_image((z[:, None] @ self.weight)[:, 0])).reshape(-1, 3, 8, 8)


class Pinnable(Network):
    """An Einsum, which is none of the products that are rewritten."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(torch.einsum("nk,lkm->nlm", z, self.heads)).reshape(-1, 3, 8, 8)


class Mixing(Network):
    """Statistics of the batch: each image depends on the others."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.to_image((z - z.mean(0))[:, :48])).reshape(-1, 3, 8, 8)


class Sizes(Network):
    """The size of the batch, read and used where it does no harm."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.to_image(self.mixed(z)[:, :48])).reshape(z.shape[0], 3, 8, 8)

    def mixed(self, z: Tensor) -> Tensor:
        z = z.reshape(z.shape[0], 4, 16) + torch.zeros(z.shape[0], 1, 16)
        by_head = z.transpose(0, 1).reshape(4 * z.shape[0], 16)  # the batch is the inner dimension
        return torch.sigmoid(by_head).reshape(4, z.shape[0], 16).transpose(0, 1).reshape(z.shape[0], 64)


class MixingBesideSizes(Sizes):
    """Its size does no harm, and sums over the batch do."""

    def mixed(self, z: Tensor) -> Tensor:
        return super().mixed(z).cumsum(0)


class Positions(Network):
    """Each row gets its place in the batch."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.to_image(z[:, :48]) + torch.arange(z.shape[0])[:, None]).reshape(-1, 3, 8, 8)


class Linear(Network):
    """Products with a constant weight, and attention: no rewriting is needed."""

    def forward(self, z: Tensor) -> Tensor:
        x = z.reshape(-1, 4, 16) @ self.query
        attention = torch.softmax(x @ x.transpose(1, 2), dim=-1) @ x
        return torch.tanh(self.to_image(attention)).reshape(-1, 12, 8, 8)


def source(network: type[Network], *, channels: int = 3) -> Source:
    return Source(generator=network().eval(), latent_shape=(64,), image=(8, 8, channels), image_range=(-1.0, 1.0))


def images_in_batches_of(folder: Path, batch: int, *, pinned_batch: int | None = None) -> bytes:
    session = CpuSession(folder / FP32_FILE, pinned_batch=pinned_batch)
    return session.run_in_batches(sample_inputs(range(3000)), batch)[0].tobytes()


def test_matrix_products_and_attention_are_exported_as_they_are(tmp_path: Path) -> None:
    network = network_graph(source(Linear, channels=12))
    feeds, _ = invariance_feeds(source(Linear, channels=12), 8)
    assert {"MatMul", "Softmax"} <= {node.op_type for node in network.graph.node}
    assert make_batch_invariant(network, feeds, BATCHES) == (network, {})


def test_a_product_with_a_constant_of_three_dimensions_is_rewritten(tmp_path: Path) -> None:
    result = export_model(source(Rewritable), options(tmp_path / "models", num_parity_seeds=20))
    assert result.certificate.pinned_batch is None
    assert images_in_batches_of(result.folder, 1) == images_in_batches_of(result.folder, 7)

    network = network_graph(source(Rewritable))
    feeds, _ = invariance_feeds(source(Rewritable), 8)
    before = CpuSession(network.SerializeToString())
    assert before.run_in_batches(feeds, 1)[0].tobytes() != before.run_in_batches(feeds, 7)[0].tobytes()
    made, rewritten = make_batch_invariant(network, feeds, BATCHES)
    assert rewritten == {"network/MatMul": "constant weight made two-dimensional"}
    after = CpuSession(made.SerializeToString()).run(feeds)[0]
    np.testing.assert_allclose(after, before.run(feeds)[0], atol=ATOL)


def test_a_network_that_one_batch_size_makes_exact_is_pinned_and_says_so(tmp_path: Path) -> None:
    result = export_model(source(Pinnable), options(tmp_path / "models", num_parity_seeds=20))
    assert result.certificate.pinned_batch == 5
    assert images_in_batches_of(result.folder, 1) != images_in_batches_of(result.folder, 5)
    for batch in (1, 2, 3):
        pinned = images_in_batches_of(result.folder, batch, pinned_batch=5)
        assert pinned == images_in_batches_of(result.folder, 5, pinned_batch=5)
    for model in ("digits", "digits-decode"):
        folder = tmp_path / "models" / model
        for path in (folder / "config.pbtxt", *folder.glob("configs/*.pbtxt")):
            config = text_format.Parse(path.read_text(), triton.ModelConfig())
            assert config.parameters["batch_buckets"].string_value == "5", path


def test_a_network_that_reads_the_size_of_its_batch_is_exported(tmp_path: Path) -> None:
    result = export_model(source(Sizes), options(tmp_path / "models", precision="fp32"))
    assert "Shape" in {node.op_type for node in onnx.load(result.folder / FP32_FILE).graph.node}
    assert images_in_batches_of(result.folder, 1) == images_in_batches_of(result.folder, 7)


@pytest.mark.parametrize(
    ("kind", "node"), [(Mixing, "ReduceMean"), (MixingBesideSizes, "CumSum"), (Positions, "Range")]
)
def test_a_network_that_mixes_its_batch_is_refused_with_the_node(
    tmp_path: Path, kind: type[Network], node: str
) -> None:
    with pytest.raises(GateError, match=rf"depends on its batch: .* The first node that does is network/{node}\."):
        export_model(source(kind), options(tmp_path / "models"))
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("rewrite", [flatten_weight, product_as_convolution])
def test_a_node_that_is_no_such_product_is_not_rewritten(rewrite: object) -> None:
    network = network_graph(source(Mixing))
    for node in network.graph.node:
        if node.op_type != "Gemm":
            assert rewrite(network, node) is None  # type: ignore[operator]


@pytest.mark.parametrize("kind", [Mixing, Linear])
def test_a_product_as_a_convolution_gives_the_same(kind: type[Network]) -> None:
    channels = 12 if kind is Linear else 3
    network = network_graph(source(kind, channels=channels))
    feeds, _ = invariance_feeds(source(kind), 8)
    before = CpuSession(network.SerializeToString()).run(feeds)[0]
    num_rewritten = 0
    for name in [node.name for node in network.graph.node if node.op_type in ("Gemm", "MatMul")]:
        node = next(node for node in network.graph.node if node.name == name)
        made = product_as_convolution(network, node)
        if made is not None:
            network, num_rewritten = made, num_rewritten + 1
    assert num_rewritten == (2 if kind is Linear else 1)
    np.testing.assert_allclose(CpuSession(network.SerializeToString()).run(feeds)[0], before, atol=ATOL)


def test_the_first_dependent_node_is_none_where_there_is_none() -> None:
    feeds, _ = invariance_feeds(source(Linear, channels=12), 8)
    assert first_dependent_node(network_graph(source(Linear, channels=12)), feeds, BATCHES) is None
