"""Generators that whole-graph fp16 breaks: `auto` mends them with most of the graph in half, or says why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export.adapters.checkpoint import load_checkpoint
from export.adapters.source import Source
from export.errors import GateError, InputError
from export.graph.build import Networks, build_graphs, export_networks
from export.pipeline import export_model
from export.precision.mixed import Mixed, add_fp16
from export.precision.plan import plan_by_rule
from export.precision.search import NothingPassesError, Search
from export.proof.cases import make_half_cases
from export.proof.half import NodeByNode
from export.proof.half_gate import judge_images
from export.proof.prove import expect_half, prove
from export.surgery.fp16 import fp16_network
from ganvas_core.certificate import Certificate
from ganvas_core.names import FP16_FILE, FP32_FILE
from serving.repository.reader import read_repository
from tests.support.training import TINY, tiny_config
from tests.unit.export.conftest import Exported, options
from tests.unit.export.precision.generators import HOSTILE, hostile_source
from training.loop import train
from training.run.folder import create

CASES = make_half_cases(num_seeds=256, num_labels=0, truncation_max=1.5)


def mixed(source: Source, networks: Networks | None = None, **changes: Any) -> Mixed:
    values: dict[str, Any] = {"num_half_seeds": 256}
    changed = options(**values | changes)
    graphs = build_graphs(source, networks or export_networks(source))
    return add_fp16(source, graphs, prove(source, graphs, changed), changed, report=lambda step: None)


@pytest.mark.parametrize("name", HOSTILE)
def test_auto_mends_what_whole_graph_fp16_breaks(name: str) -> None:
    source = hostile_source(name)
    networks = export_networks(source)
    found = mixed(source, networks)
    assert found.no_fp16 is None

    expected = expect_half(source, CASES, found.proof.images[FP32_FILE]).images
    whole = judge_images(NodeByNode(fp16_network(networks.generator)), expected, [16])
    assert whole.failures
    half = found.proof.pixel_parity[FP16_FILE]
    assert (half.arithmetic, half.max_levels <= 2, half.mean_levels <= 0.05) == ("half", True, True)
    assert half.worst_psnr_db is None or half.worst_psnr_db >= 65
    kept = found.graphs.plans["sample"].kept
    assert len(kept) < len(networks.generator.graph.node) / 2
    assert all(kept.values())


def test_a_value_that_overflows_is_rescaled_where_that_is_exact_and_kept_where_not() -> None:
    rescaled = mixed(hostile_source("activations over 65504")).graphs.plans["sample"]
    assert list(rescaled.exponents) == ["network/second/Conv"]
    assert len(rescaled.kept) == 2
    kept = mixed(hostile_source("activations over 65504, read twice")).graphs.plans["sample"]
    assert kept.exponents == {}
    assert "quarter of half's range" in kept.kept["network/second/Conv"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a digit GAN of 16x16 after 60 steps."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    network = dataclasses.replace(TINY, image_size=16)
    config = tiny_config("dcgan", network=network, total_kimg=0.96, save_kimg=0.96, samples_kimg=0.96)
    create(folder, config, overwrite=False)
    assert train(config, folder).finished
    return folder / "checkpoint"


@pytest.mark.parametrize("kind", ["untrained", "trained"])
def test_the_digit_gan_rescaled_without_changing_its_function_is_mended(
    gan: Exported, trained: Path, tmp_path: Path, kind: str
) -> None:
    source = load_checkpoint(trained if kind == "trained" else gan.checkpoint)
    blocks = source.generator.blocks
    assert isinstance(blocks, nn.Sequential)
    norm, after = blocks[1], blocks[3]
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(after, nn.ConvTranspose2d)
    with torch.no_grad():
        norm.weight.mul_(2e5)
        norm.bias.mul_(2e5)
        after.weight.div_(2e5)
    certificate = export_model(source, options(tmp_path / "models")).certificate
    file = certificate.files[FP16_FILE]
    assert file.activations is not None
    assert file.activations.num_nonfinite == 0
    assert file.activations.peak < file.activations.limit
    assert list(file.rescaled) == ["network/blocks.0/ConvTranspose"]
    assert file.pixel_parity is not None
    assert file.pixel_parity.max_levels <= 2


class Cancelling(nn.Module):
    """Weights that differ by less than half resolves, and an image that depends on the difference alone: what adds
    them up in half gets nothing right, and that is all there is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_image = nn.ConvTranspose2d(6, 3, 16, bias=False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = z[:, :, None, None]
        return torch.tanh(self.to_image(z * 3000.0 + 0.5) - self.to_image(z * 2999.0 + 0.5))


@pytest.fixture
def hopeless(source: Source) -> Source:
    torch.manual_seed(0)
    return dataclasses.replace(source, labels=(), generator=Cancelling().eval())


def test_fp32_alone_is_published_with_the_reason_where_nothing_passes(hopeless: Source, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    result = export_model(hopeless, options(repository, max_search_runs=3))
    certificate = Certificate.read(result.folder)
    assert certificate.no_fp16 == "nothing that passes was found in 3 runs of the network"
    assert list(certificate.files) == [FP32_FILE]
    assert not (result.folder / FP16_FILE).exists()
    for config_name in ("gpu-fp16", "tensorrt"):
        text = (repository / "digits" / "configs" / f"{config_name}.pbtxt").read_text()
        assert 'default_model_filename: "model.onnx"' in text
        assert read_repository(repository, config_name).newest("digits").precision == "fp32"


def test_precision_fp16_is_an_error_where_nothing_passes(hopeless: Source, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"no fp16 file passes its proof: .* Export with --precision fp32, or auto\."):
        export_model(hopeless, options(tmp_path / "models", precision="fp16", max_search_runs=3))
    assert not (tmp_path / "models").exists()


def test_precision_fp32_writes_no_fp16_file(gan: Exported, tmp_path: Path) -> None:
    certificate = export_model(
        load_checkpoint(gan.checkpoint), options(tmp_path / "models", precision="fp32")
    ).certificate
    assert list(certificate.files) == [FP32_FILE]
    assert certificate.no_fp16 is None


class Saturating(nn.Module):
    """A convolution with a weight of 1e5, on an activation that is never near zero.

    Args:
        limit: what its result is clipped to: 1 hides how large the weight is, 3000 does not.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.limit = limit
        self.first = nn.ConvTranspose2d(6, 4, 16)
        self.gain = nn.Conv2d(4, 4, 1, groups=4)
        self.to_image = nn.Conv2d(4, 3, 3, padding=1)
        with torch.no_grad():
            self.gain.weight.fill_(1e3)
            self.gain.weight[1] = 1e5

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.first(z[:, :, None, None])
        gain = torch.clamp(self.gain(0.02 + 0.02 * torch.sigmoid(x)), max=self.limit) / self.limit
        return torch.tanh(self.to_image(x + gain))


@pytest.mark.parametrize(("limit", "clipped"), [(1.0, True), (3000.0, False)])
def test_weights_are_clipped_on_request_each_with_a_warning_where_the_proof_allows_it(
    source: Source, tmp_path: Path, limit: float, clipped: bool
) -> None:
    network = dataclasses.replace(source, labels=(), generator=Saturating(limit).eval())
    kept = mixed(network).graphs.plans["sample"]
    assert "a weight of 1e+05 is beyond the largest fp16 number" in kept.kept["network/gain/Conv"]

    certificate = export_model(network, options(tmp_path / "models", clip_weights=True)).certificate
    file = certificate.files[FP16_FILE]
    assert file.pixel_parity is not None
    assert file.pixel_parity.max_levels <= 2
    if clipped:
        assert "network/gain/Conv" not in file.fp32_nodes
        (how,) = file.clipped.values()
        assert how == "1 of 4 numbers are clipped to 65504; the largest was 100000"
    else:
        assert file.clipped == {}
        assert "network/gain/Conv" in file.fp32_nodes


def test_fp32_node_that_no_network_has_is_rejected(source: Source, networks: Networks) -> None:
    with pytest.raises(InputError, match=r"--fp32-node nonsense is not a node of the network\. It has: .*to_image"):
        mixed(source, networks, fp32_nodes=("nonsense",))


def test_fp32_node_may_be_any_node(source: Source, networks: Networks) -> None:
    names = tuple(node.name for node in networks.generator.graph.node)
    kept = mixed(source, networks, fp32_nodes=(names[-1], names[5])).graphs.plans["sample"].kept
    assert kept[names[-1]] == kept[names[5]] == "asked for with --fp32-node"


def test_search_stops_at_its_limit() -> None:
    source = hostile_source("deep residual chain")
    graphs = build_graphs(source, export_networks(source))
    proof = prove(source, graphs, options())
    expected = expect_half(source, CASES, proof.images[FP32_FILE]).images
    search = Search(graphs.network.model, judge_images, max_runs=5, batch=16)
    with pytest.raises(NothingPassesError, match="nothing that passes was found in 5 runs of the network"):
        search.improve(plan_by_rule(graphs.network.model), expected)
    assert search.num_runs == 5
