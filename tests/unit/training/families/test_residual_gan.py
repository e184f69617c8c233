from __future__ import annotations

import pytest
import torch
from torch import nn

from training.families.residual_gan import ConditionalNorm, Discriminator, Generator, ResidualGanConfig, SelfAttention


def config(**changes: int) -> ResidualGanConfig:
    values = {
        "latent_dim": 8,
        "num_classes": 3,
        "embedding_dim": 4,
        "image_size": 64,
        "image_channels": 3,
        "base_channels": 2,
    }
    return ResidualGanConfig(**(values | changes))


@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_networks_fit_every_image_size_and_attend_once(image_size: int) -> None:
    network = config(image_size=image_size)
    generator, discriminator = Generator(network), Discriminator(network, 2)
    images = generator(torch.randn(2, 8), torch.tensor([0, 2]))
    assert images.shape == (2, 3, image_size, image_size)
    assert images.abs().max() <= 1
    assert discriminator(images, torch.tensor([0, 2])).shape == (2,)
    for each in (generator, discriminator):
        assert sum(isinstance(module, SelfAttention) for module in each.modules()) == 1


def test_widths_double_towards_the_narrow_end_up_to_sixteen_times() -> None:
    assert config(image_size=64).widths(4) == [64, 32, 16, 8, 4]
    assert config(image_size=256).widths(4) == [64, 64, 64, 32, 16, 8, 4]


def test_attention_starts_as_the_identity_and_then_sees_far() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8)
    x = torch.randn(1, 8, 8, 8)
    assert torch.equal(attention(x), x)
    attention.gain.data.fill_(1.0)
    changed = x.clone()
    changed[:, :, 0, 0] += 5.0
    assert not torch.allclose(attention(changed)[:, :, 7, 7], attention(x)[:, :, 7, 7])


def test_conditional_norm_scales_and_shifts_by_the_condition() -> None:
    norm = ConditionalNorm(2, 1)
    nn.init.ones_(norm.scale.weight)
    nn.init.ones_(norm.shift.weight)
    x = torch.randn(16, 2, 4, 4)
    plain = norm(x, torch.zeros(16, 1))
    assert plain.std().item() == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(norm(x, torch.full((16, 1), 2.0)), plain * 3 + 2)


def test_every_layer_of_the_generator_is_spectrally_normalized() -> None:
    torch.manual_seed(0)
    generator = Generator(config(image_size=16, attention_size=8))
    for _ in range(20):
        generator(torch.randn(2, 8), torch.tensor([0, 1]))
    for module in generator.eval().modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2).item() == pytest.approx(1.0, abs=0.05)
