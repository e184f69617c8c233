"""The export gate rejects every kind of wrong graph."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from export.adapters.checkpoint import load_checkpoint
from export.adapters.source import Source
from export.errors import GateError
from export.graph.build import Graphs, build_graphs, export_networks
from export.graph.compose import join
from export.graph.images import postprocess_graph
from export.graph.network import network_graph
from export.graph.noise import noise_graph
from export.graph.writer import Graph
from export.proof.cases import make_half_cases
from export.proof.prove import Proof, expect_half, prove, prove_fp16
from export.surgery.truncation import bind_truncation
from ganvas_core.names import FP16_FILE, FP32_FILE, Role
from tests.unit.export.conftest import OPTIONS, Exported


def with_files(graphs: Graphs, changed: Mapping[tuple[Role, str], ModelProto]) -> Graphs:
    files = dict(graphs.files) | {key: Graph(model) for key, model in changed.items()}
    return dataclasses.replace(graphs, files=files)


def prove_both(source: Source, graphs: Graphs) -> Proof:
    proof = prove(source, graphs, OPTIONS)
    cases = make_half_cases(num_seeds=32, num_labels=len(source.labels), truncation_max=1.5)
    return prove_fp16(source, graphs, proof, expect_half(source, cases, proof.images[FP32_FILE]), OPTIONS)


def joined(source: Source, network: ModelProto, image_range: tuple[float, float]) -> dict[tuple[Role, str], ModelProto]:
    """Sampler and decode in float32, of another network or another postprocess."""
    postprocess = postprocess_graph(source.image, image_range)
    images = join(network, postprocess, edge="image_float")
    return {
        ("decode", FP32_FILE): join(bind_truncation(network), postprocess, edge="image_float"),
        ("sample", FP32_FILE): join(noise_graph(source.latent_shape), images, edge="latent"),
    }


def test_prove_passes_a_right_export_and_gives_the_figures(source: Source, graphs: Graphs) -> None:
    proof = prove_both(source, graphs)
    assert proof.batches == (1, 2, 3, 5)
    assert proof.float_parity.reference == "float64"
    assert 0 < proof.float_parity.max_abs < proof.float_parity.atol < 1e-5
    assert proof.posterior_parity == {}
    assert proof.pixel_parity[FP32_FILE].max_levels <= 1
    assert proof.images[FP32_FILE].shape == (9, 16, 16, 3)
    assert proof.images[FP32_FILE].std() > 10
    half = proof.pixel_parity[FP16_FILE]
    assert (half.arithmetic, proof.pixel_parity[FP32_FILE].arithmetic) == ("half", "float32")
    assert 0 < half.mean_levels < 0.05
    assert half.num_images == 4 + 8 + 12 + (32 + 6)  # 4 batches of 1, 2 and 3, and all in batches of 5
    assert 0 < proof.half["sample"].activations.peak < 100
    assert proof.half["sample"].activations.num_nonfinite == 0


def test_prove_rejects_noise_that_differs_in_one_key(source: Source, graphs: Graphs) -> None:
    model = copy.deepcopy(graphs.noise.model)
    keys = next(tensor for tensor in model.graph.initializer if tensor.name == "noise/keys")
    array = numpy_helper.to_array(keys).copy()
    array[0, 4] ^= np.uint64(2)
    keys.CopyFrom(numpy_helper.from_array(array, keys.name))
    with pytest.raises(GateError, match="noise parity failed: seed 0, truncation 1, label 0, dimension 4 is"):
        prove(source, dataclasses.replace(graphs, noise=Graph(model)), OPTIONS)


def test_prove_rejects_a_batch_norm_epsilon_that_pixels_would_hide(source: Source, graphs: Graphs) -> None:
    network = copy.deepcopy(source.generator)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1.2e-4
    wrong = network_graph(dataclasses.replace(source, generator=network))
    changed = with_files(graphs, joined(source, wrong, source.image_range))
    with pytest.raises(
        GateError, match=r"fp32 parity failed before rounding to uint8: .* > .* from PyTorch in float64 at seed"
    ):
        prove(source, dataclasses.replace(changed, network=Graph(wrong)), OPTIONS)


def test_prove_rejects_a_postprocess_of_another_range(source: Source, graphs: Graphs) -> None:
    changed = with_files(graphs, joined(source, graphs.network.model, (-1.1, 1.1)))
    with pytest.raises(GateError, match=r"fp32 parity failed: max pixel difference \d+ > 1 levels at seed"):
        prove(source, changed, OPTIONS)


def test_prove_rejects_a_decode_that_is_not_the_sampler(source: Source, graphs: Graphs) -> None:
    decode = joined(source, graphs.network.model, (-1.1, 1.1))["decode", FP32_FILE]
    with pytest.raises(
        GateError,
        match=r"model.onnx: decode\(latent\(seed\) \* truncation\) is not the image that sample gives: seed",
    ):
        prove(source, with_files(graphs, {("decode", FP32_FILE): decode}), OPTIONS)


@pytest.mark.parametrize("file_name", [FP32_FILE, FP16_FILE])
def test_prove_rejects_an_image_that_depends_on_its_batch(
    source: Source, graphs: Graphs, file_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The half gate would see the planted dependence first.
    passed = prove_both(source, graphs).half["sample"]
    monkeypatch.setattr("export.proof.prove.judge_images", lambda *_: passed)
    model = copy.deepcopy(graphs.files["sample", file_name].model)
    clip = next(node for node in model.graph.node if node.name == "postprocess/Clip_0")
    before = list(model.graph.node).index(clip)
    mean = helper.make_node("ReduceMax", [clip.input[0], "axis"], ["brightest"], name="network/max", keepdims=1)
    add = helper.make_node("Sub", [clip.input[0], "brightest"], ["dimmed"], name="network/sub")
    clip.input[0] = "dimmed"
    model.graph.initializer.append(helper.make_tensor("axis", TensorProto.INT64, [1], [0]))
    model.graph.node.insert(before, mean)
    model.graph.node.insert(before + 1, add)
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(GateError, match=f"{file_name}: sample depends on its batch: seed .* in slot . of a batch of 2"):
        prove_both(source, with_files(graphs, {("sample", file_name): model}))


def test_prove_rejects_an_encoder_that_torch_disagrees_with(vae: Exported) -> None:
    source = load_checkpoint(vae.checkpoint)
    graphs = build_graphs(source, export_networks(source))
    assert source.encoder is not None
    with torch.no_grad():
        next(source.encoder.parameters()).mul_(1.01)
    with pytest.raises(GateError, match="fp32 encode parity failed before rounding to uint8"):
        prove(source, graphs, OPTIONS)


class Blank(nn.Module):
    """The same grey of every latent."""

    def __init__(self) -> None:
        super().__init__()
        self.to_image = nn.ConvTranspose2d(6, 3, 16)
        with torch.no_grad():
            self.to_image.weight.zero_()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.to_image(z[:, :, None, None]))


def test_prove_rejects_a_network_that_makes_one_image_of_every_seed(source: Source) -> None:
    blank = dataclasses.replace(source, labels=(), generator=Blank().eval())
    with pytest.raises(GateError, match="the network makes one and the same image of all 9 seeds"):
        prove(blank, build_graphs(blank, export_networks(blank)), OPTIONS)


class Strict(Blank):
    """It names a type itself, and so it runs in float32 alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        nn.init.normal_(self.to_image.weight, std=0.3)
        self.register_buffer("offset", torch.full((1,), 0.1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return super().forward(z.float())


def test_a_network_that_cannot_run_in_float64_is_held_against_its_float32(source: Source) -> None:
    strict = dataclasses.replace(source, labels=(), generator=Strict().eval())
    proof = prove(strict, build_graphs(strict, export_networks(strict)), OPTIONS)
    assert proof.float_parity.reference == "float32"
    assert proof.float_parity.atol == pytest.approx(1e-5)
