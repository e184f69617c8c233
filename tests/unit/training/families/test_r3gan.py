from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ganvas_core.cli import UsageError
from tests.support.gans import tiny_gan
from training.families.r3gan import GAIN, Discriminator, Generator, R3ganConfig, ResidualBlock


def config(image_size: int = 32, **changes: object) -> R3ganConfig:
    values: dict[str, object] = {
        "latent_dim": 8,
        "num_classes": 3,
        "embedding_dim": 4,
        "image_size": image_size,
        "image_channels": 3,
        "stage_channels": (16,) * (image_size.bit_length() - 2),
        "group_channels": 8,
    }
    return R3ganConfig(**(values | changes))  # type: ignore[arg-type]


def test_residual_block_starts_as_the_identity_and_its_first_layers_are_scaled_by_depth() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(64, group_channels=16, num_blocks=16)
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(block(x), x)
    convolutions = [layer for layer in block.path if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in convolutions] == [(1, 1), (3, 3), (1, 1)]
    assert [layer.weight.shape[0] for layer in convolutions] == [128, 128, 64]
    assert convolutions[1].groups == 128 // 16
    for layer in convolutions[:2]:
        expected = GAIN * 16**-0.25 / math.sqrt(layer.weight[0].numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
    assert convolutions[2].weight.count_nonzero() == 0
    assert all(layer.bias is None for layer in convolutions)


def test_generator_and_discriminator_keep_the_variance_at_the_start() -> None:
    torch.manual_seed(0)
    network = config(32, latent_dim=64, stage_channels=(32,) * 4)
    with torch.no_grad():
        images = Generator(network)(torch.randn(32, 64), torch.arange(32) % 3)
        plain = torch.randn(32, 3, 1, 1).expand(-1, -1, 32, 32)  # Noise would only be averaged away.
        scores = Discriminator(network, (32,) * 4)(plain, torch.arange(32) % 3)
    assert images.shape == (32, 3, 32, 32)
    assert 0.2 < images.std().item() < 3.0
    assert scores.shape == (32,)
    assert 0.2 < scores.std().item() < 3.0


def test_networks_have_no_normalization() -> None:
    for network in (Generator(config()), Discriminator(config(), (16,) * 4)):
        for module in network.modules():
            assert "Norm" not in type(module).__name__


@pytest.mark.parametrize("image_size", [32, 64, 128, 256])
def test_networks_fit_every_image_size(image_size: int) -> None:
    network = config(image_size, stage_channels=(2,) * (image_size.bit_length() - 2), group_channels=4)
    images = Generator(network)(torch.randn(1, 8), torch.tensor([2]))
    assert images.shape == (1, 3, image_size, image_size)
    assert Discriminator(network, network.stage_channels)(images, torch.tensor([2])).shape == (1,)


def test_config_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="stage_channels must have 4 entries for image_size 32, from 4x4 up; got 2"):
        config(stage_channels=(8, 8))
    with pytest.raises(ValueError, match="embedding_dim must be at least 1 with classes"):
        config(embedding_dim=0)
    with pytest.raises(UsageError, match="spectral_norm does not go with r3gan"):
        tiny_gan("r3gan", spectral_norm=True)
    with pytest.raises(UsageError, match="discriminator_channels must have 2 entries, as stage_channels; got 1"):
        tiny_gan("r3gan", discriminator_channels=[8])
