"""Ready adapters against the packages that they take weights of, at two sizes each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from export.adapters.load import load_source
from export.adapters.ready.stylegan2_network import StyleGan2
from export.adapters.source import Source
from export.errors import InputError
from export.options import CheckpointExportOptions
from tests.support.families import biggan_folder, dcgan_file, stylegan2_file, vae_folder


def load(adapter: str, weights: Path, image_size: str | None = None) -> Source:
    return load_source(CheckpointExportOptions(name="mine", adapter=adapter, weights=weights, image_size=image_size))


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (32, 1)])
def test_dcgan_is_its_layers_in_turn(tmp_path: Path, size: int, channels: int) -> None:
    path = dcgan_file(tmp_path, size=size, channels=channels)
    source = load("dcgan", path)
    assert source.family == "dcgan"
    assert (source.latent_shape, source.image) == ((100, 1, 1), (size, size, channels))
    weights, x = torch.load(path, weights_only=True), torch.randn(3, 100, 1, 1)
    expected, index, first = x, 0, True
    while f"main.{index}.weight" in weights:
        expected = functional.conv_transpose2d(
            expected, weights[f"main.{index}.weight"], stride=1 if first else 2, padding=0 if first else 1
        )
        norm, first = f"main.{index + 1}.", False
        if norm + "weight" in weights:
            values = [weights[norm + name] for name in ("running_mean", "running_var", "weight", "bias")]
            expected = functional.batch_norm(expected, *values).relu()
        index += 3
    with torch.no_grad():
        torch.testing.assert_close(source.generator(x), expected.tanh())


@pytest.mark.parametrize("image_size", [None, "16x24"])
def test_autoencoder_kl_is_the_packages_with_scale_and_shift(tmp_path: Path, image_size: str | None) -> None:
    from diffusers import AutoencoderKL

    source = load("diffusers-vae", vae_folder(tmp_path, tiny=False), image_size)
    assert source.latent_shape == ((4, 16, 16) if image_size is None else (4, 8, 12))
    model = AutoencoderKL.from_pretrained(tmp_path)
    z = torch.randn(2, *source.latent_shape)
    with torch.no_grad():
        images = model.decode(z / 0.3611 + 0.1159).sample.clamp(-1, 1)
        torch.testing.assert_close(source.generator(z), images)
        posterior = model.encode(images).latent_dist
        assert source.encoder is not None
        mean, logvar = source.encoder(images)
    torch.testing.assert_close(mean, (posterior.mean - 0.1159) * 0.3611)
    torch.testing.assert_close(logvar.exp().sqrt(), posterior.std * 0.3611)


@pytest.mark.parametrize("image_size", ["16x16", "16x24"])
def test_autoencoder_tiny_is_the_packages(tmp_path: Path, image_size: str) -> None:
    from diffusers import AutoencoderTiny

    source = load("diffusers-vae", vae_folder(tmp_path, tiny=True), image_size)
    model = AutoencoderTiny.from_pretrained(tmp_path)
    z = torch.randn(2, *source.latent_shape)
    with torch.no_grad():
        images = model.decode(z / 1.25).sample.clamp(-1, 1)
        torch.testing.assert_close(source.generator(z), images)
        assert source.encoder is not None
        mean, logvar = source.encoder(images)
        torch.testing.assert_close(mean, model.encode(images).latents * 1.25)
    assert logvar.max() < -29


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_biggan_is_the_packages_at_its_truncations(tmp_path: Path, size: int, truncation: float) -> None:
    from pytorch_pretrained_biggan import BigGAN, BigGANConfig

    source = load("biggan", biggan_folder(tmp_path, size=size))
    assert (source.image, len(source.labels), source.truncation) == ((size, size, 3), 5, "network")
    model = BigGAN(BigGANConfig.from_json_file(tmp_path / "config.json")).eval()
    model.load_state_dict(torch.load(tmp_path / "pytorch_model.bin", weights_only=True))
    labels = torch.tensor([0, 3, 4])
    z = torch.randn(3, 16)
    with torch.no_grad():
        network: Any = source.generator
        within = network.mapping(z)
        expected = model(within * truncation, functional.one_hot(labels, 5).float(), truncation)
        made = network(z, torch.full((3, 1), truncation), labels)
    assert expected.std() > 0.1
    torch.testing.assert_close(made, expected, atol=2e-5, rtol=1e-4)


def test_the_latent_of_biggan_ends_at_two_and_has_the_right_spread(tmp_path: Path) -> None:
    from scipy import stats

    network: Any = load("biggan", biggan_folder(tmp_path, size=16)).generator
    z = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    within = network.mapping(z)
    assert within.abs().max() <= 2.0
    assert stats.kstest(within.numpy(), stats.truncnorm(-2, 2).cdf).pvalue > 0.01


def modulated_by_the_book(layer: Any, x: Tensor, w: Tensor) -> Tensor:
    """Weights modulated and demodulated for each image, as in the paper."""
    images = []
    for row, style in zip(x.expand(len(w), -1, -1, -1), layer.modulation(w), strict=True):
        weight = layer.scale * layer.weight[0] * style[None, :, None, None]
        if layer.demodulate:
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.blur is None:
            images.append(functional.conv2d(row[None], weight, padding=layer.padding))
            continue
        wide = functional.conv_transpose2d(row[None], weight.transpose(0, 1), stride=2)
        images.append(by_kernel(functional.pad(wide, (1, 1, 1, 1)), layer.blur.kernel))
    return torch.cat(images)


def by_kernel(x: Tensor, kernel: Tensor) -> Tensor:
    channels = x.shape[1]
    flipped = kernel.flip(0, 1).expand(channels, 1, 4, 4)
    return functional.conv2d(x, flipped, groups=channels)


def stylegan2_by_the_book(network: StyleGan2, latent: Tensor, psi: float) -> Any:
    sizes = [height * width for height, width in network.noise_sizes]
    z, *noises = torch.split(latent, [network.style_width, *sizes], dim=1)
    w = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    mapping: list[Any] = list(network.style)[1:]
    for layer in mapping:
        scale = 0.01 / math.sqrt(network.style_width)
        w = functional.leaky_relu(w @ (layer.weight * scale).T + layer.bias * 0.01, 0.2) * math.sqrt(2)
    w = network.mean_w + psi * (w - network.mean_w)
    x: Tensor = network.input.input
    rgb: Tensor | None = None
    layers: list[Any] = [network.conv1, *network.convs]
    outputs: dict[int, Any] = {0: network.to_rgb1} | {2 * i + 2: to for i, to in enumerate(network.to_rgbs)}
    for i, (layer, noise) in enumerate(zip(layers, noises, strict=True)):
        x = modulated_by_the_book(layer.conv, x, w)
        x = x + layer.noise.weight * noise.reshape(-1, 1, *network.noise_sizes[i])
        x = functional.leaky_relu(x + layer.activate.bias[:, None, None], 0.2) * math.sqrt(2)
        if i in outputs:
            color = modulated_by_the_book(outputs[i].conv, x, w) + outputs[i].bias
            if rgb is not None:
                zeros = torch.zeros(*rgb.shape[:2], rgb.shape[2] * 2, rgb.shape[3] * 2)
                zeros[:, :, ::2, ::2] = rgb
                color = color + by_kernel(functional.pad(zeros, (2, 1, 2, 1)), outputs[i].upsample.kernel)
            rgb = color
    assert rgb is not None
    return rgb.clamp(-1, 1)


@pytest.mark.parametrize(("start", "doublings", "image"), [((4, 6), 2, (16, 24, 3)), ((4, 4), 3, (32, 32, 3))])
def test_stylegan2_is_the_papers(
    tmp_path: Path, start: tuple[int, int], doublings: int, image: tuple[int, int, int]
) -> None:
    path = stylegan2_file(tmp_path, start=start, doublings=doublings)
    source = load("stylegan2", path)
    assert (source.image, source.truncation) == (image, "network")
    network: Any = source.generator
    assert torch.equal(network.mean_w, torch.load(path, weights_only=True)["latent_avg"])
    latent = torch.randn(2, *source.latent_shape)
    with torch.no_grad():
        for psi in (1.0, 0.6):
            made = network(latent, torch.full((2, 1), psi))
            torch.testing.assert_close(made, stylegan2_by_the_book(network, latent, psi), atol=2e-5, rtol=1e-4)
        other_noise = latent.clone()
        other_noise[:, network.style_width :] += 1
        assert not torch.allclose(network(other_noise, torch.ones(2, 1)), network(latent, torch.ones(2, 1)))


def test_stylegan2_finds_the_mean_of_w_where_the_file_has_none(tmp_path: Path) -> None:
    path = stylegan2_file(tmp_path)
    weights = torch.load(path, weights_only=True)["g_ema"]
    torch.save(weights, path)
    network: Any = load("stylegan2", path).generator
    with torch.no_grad():
        mean = network.style(torch.randn(20_000, 16)).mean(dim=0)
    torch.testing.assert_close(network.mean_w, mean, atol=0.02, rtol=0)


@pytest.mark.parametrize("adapter", ["dcgan", "stylegan2"])
def test_a_state_dict_of_another_family_is_refused(tmp_path: Path, adapter: str) -> None:
    torch.save({"layer.weight": torch.zeros(3, 3)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="is no "):
        load(adapter, tmp_path / "a.pth")


def test_a_state_dict_with_a_key_too_few_is_refused_with_the_key(tmp_path: Path) -> None:
    path = dcgan_file(tmp_path, size=16)
    weights = torch.load(path, weights_only=True)
    del weights["main.1.running_var"]
    torch.save(weights, path)
    with pytest.raises(InputError, match=r"missing: main\.1\.running_var"):
        load("dcgan", path)


@pytest.mark.parametrize(
    ("adapter", "config", "message"),
    [
        ("biggan", None, r"must be a folder with config\.json"),
        ("biggan", "{}", r"has none of pytorch_model"),
        ("diffusers-vae", "[1]", r"must hold an object; got list"),
        (
            "diffusers-vae",
            '{"_class_name": "UNet2DModel"}',
            r"takes AutoencoderKL and AutoencoderTiny; .* 'UNet2DModel'",
        ),
    ],
)
def test_a_folder_that_is_no_such_model_is_refused(
    tmp_path: Path, adapter: str, config: str | None, message: str
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=message):
        load(adapter, tmp_path)


def test_image_sizes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be multiples of 2"):
        load("diffusers-vae", vae_folder(tmp_path, tiny=False), "15x16")
    with pytest.raises(InputError, match="--image-size HEIGHTxWIDTH is needed"):
        load("diffusers-vae", vae_folder(tmp_path, tiny=True))
    with pytest.raises(InputError, match="--image-size is not for --adapter dcgan: its weights make images of 16x16"):
        load("dcgan", dcgan_file(tmp_path, size=16), "32x32")
