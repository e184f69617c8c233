"""Weights of public families, seeded and small, saved as their users have them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from export.adapters.ready.stylegan2_network import StyleGan2

__all__ = ["biggan_folder", "dcgan_file", "stylegan2_file", "vae_folder"]


def dcgan_file(folder: Path, *, size: int, channels: int = 3) -> Path:
    """netG of PyTorch's DCGAN example: 100 latents, 8 feature maps, `size` a power of two."""
    torch.manual_seed(0)
    widths = [8 * 2**i for i in range(size.bit_length() - 3)][::-1]
    layers: list[nn.Module] = []
    for i, (inner, outer) in enumerate(zip([100, *widths], [*widths, channels], strict=True)):
        layers.append(nn.ConvTranspose2d(inner, outer, 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False))
        nn.init.normal_(layers[-1].weight, 0.0, 0.1)  # type: ignore[arg-type]
        layers += [nn.BatchNorm2d(outer), nn.ReLU(True)] if i < len(widths) else [nn.Tanh()]
    network = nn.Module()
    network.main = nn.Sequential(*layers)
    fill_batch_norms(network)
    path = folder / "netG_epoch_24.pth"
    torch.save(network.state_dict(), path)
    return path


def vae_folder(folder: Path, *, tiny: bool, sample_size: int | None = None) -> Path:
    """AutoencoderKL with attention, or AutoencoderTiny, as `save_pretrained` writes it."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    torch.manual_seed(0)
    if tiny:
        blocks = (8, 8, 8)
        model: Any = AutoencoderTiny(
            encoder_block_out_channels=blocks,
            decoder_block_out_channels=blocks,
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
            scaling_factor=1.25,
        )
    else:
        model = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            sample_size=sample_size or 32,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        )
    model.save_pretrained(folder)
    return folder


def biggan_folder(folder: Path, *, size: int) -> Path:
    """BigGAN-deep of pytorch-pretrained-biggan, with statistics that were filled by running it."""
    from pytorch_pretrained_biggan import BigGAN, BigGANConfig

    torch.manual_seed(0)
    doubled = {16: (True, False, False, True), 32: (True, True, False, True)}[size]
    layers = [(twice, width, width // 2) for twice, width in zip(doubled, (16, 8, 4, 2), strict=True)]
    values = {
        "output_dim": size,
        "z_dim": 16,
        "class_embed_dim": 16,
        "channel_width": 8,
        "num_classes": 5,
        "layers": layers,
        "attention_layer_position": 1,
        "eps": 1e-4,
        "n_stats": 51,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = BigGAN(BigGANConfig.from_dict(values))
    nn.init.ones_(model.generator.bn.weight)
    nn.init.zeros_(model.generator.bn.bias)
    nn.init.constant_(model.generator.layers[1].gamma, 0.5)

    # In training mode spectral norm finds the largest singular values; then the batch norms get the statistics that
    # they meet, with a drift over the truncations.
    def fill(module: Any, inputs: tuple[Any, ...]) -> None:
        drift = torch.linspace(0.9, 1.0, 51)[:, None]
        module.running_means.copy_(inputs[0].mean(dim=(0, 2, 3)) * drift)
        module.running_vars.copy_(inputs[0].var(dim=(0, 2, 3)) * drift)

    z, labels = torch.randn(64, 16), torch.eye(5)[torch.arange(64) % 5]
    with torch.no_grad():
        for _ in range(5):
            model.train()(z, labels, 1.0)
        for module in model.eval().modules():
            if hasattr(module, "running_means"):
                module.register_forward_pre_hook(fill)
        model(z, labels, 1.0)
    (folder / "config.json").write_text(json.dumps(values))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def stylegan2_file(folder: Path, *, start: tuple[int, int] = (4, 4), doublings: int = 2) -> Path:
    """A checkpoint in the layout of rosinality's port: `g_ema` with its noise buffers, beside `latent_avg`."""
    torch.manual_seed(0)
    network = StyleGan2(style=16, num_mapping=2, widths=(12, 12, 8, 8, 6)[: doublings + 1], start=start)
    for name, parameter in network.named_parameters():
        if name.endswith("noise.weight"):
            nn.init.constant_(parameter, 0.3)
    weights = dict(network.state_dict())
    for i, size in enumerate(network.noise_sizes):
        weights[f"noises.noise_{i}"] = torch.randn(1, 1, *size)
    path = folder / "stylegan2.pt"
    torch.save({"g_ema": weights, "latent_avg": torch.randn(16)}, path)
    return path


def save_safetensors(weights: dict[str, torch.Tensor], path: Path) -> Path:
    save_file(weights, path)
    return path


def fill_batch_norms(network: nn.Module) -> None:
    """Give batch norms statistics and weights that a training would."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
