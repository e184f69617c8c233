from __future__ import annotations

import pytest
import torch
from torch import nn

from training.families.blocks import DcganConfig
from training.families.dcgan import Discriminator, Generator


def arguments(*, num_classes: int, image_size: int, image_channels: int = 1) -> dict[str, int]:
    return {
        "latent_dim": 6,
        "num_classes": num_classes,
        "embedding_dim": 3,
        "image_size": image_size,
        "image_channels": image_channels,
        "base_channels": 4,
    }


@pytest.mark.parametrize("image_size", [8, 28, 32, 48, 64])
@pytest.mark.parametrize("num_classes", [0, 10])
def test_generator_makes_images_in_its_range(num_classes: int, image_size: int) -> None:
    model = Generator(**arguments(num_classes=num_classes, image_size=image_size, image_channels=3)).eval()
    z = 50 * torch.randn(5, 6)
    images = model(z, torch.arange(5)) if num_classes else model(z)
    assert images.shape == (5, 3, image_size, image_size)
    assert images.dtype == torch.float32
    assert images.min() >= -1.0
    assert images.max() <= 1.0


def test_generator_has_textbook_size_when_64_pixels_and_64_channels() -> None:
    model = Generator(latent_dim=100, num_classes=0, embedding_dim=0, image_size=64, image_channels=3, base_channels=64)
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert weights == 3_576_704 + 3  # PyTorch's DCGAN example, and one bias per colour


def test_exported_generator_has_only_symmetric_padding() -> None:
    for module in Generator(**arguments(num_classes=10, image_size=32)).modules():
        if isinstance(module, nn.ConvTranspose2d):
            assert (module.kernel_size, module.output_padding) == ((4, 4), (0, 0))
            assert (module.stride, module.padding) in {((1, 1), (0, 0)), ((2, 2), (1, 1))}


def test_generator_depends_on_latent_and_label() -> None:
    model = Generator(**arguments(num_classes=10, image_size=8)).eval()
    z = torch.randn(2, 6)
    base = model(z, torch.tensor([1, 1]))
    assert not torch.allclose(base[0], base[1])
    assert not torch.allclose(base, model(z, torch.tensor([2, 2])))


def test_discriminator_scores_depend_on_the_label_once_trained() -> None:
    model = Discriminator(num_classes=10, image_size=8, image_channels=1, base_channels=4)
    x = torch.randn(3, 1, 8, 8)
    assert model(x, torch.zeros(3, dtype=torch.int64)).shape == (3,)
    model.embedding.weight.data.normal_()  # type: ignore[union-attr]
    assert not torch.allclose(model(x, torch.tensor([0, 0, 0])), model(x, torch.tensor([1, 1, 1])))


def test_generator_rejects_a_missing_label_when_conditional() -> None:
    with pytest.raises(ValueError, match="label is missing"):
        Generator(**arguments(num_classes=10, image_size=8))(torch.randn(2, 6))


def test_labels_need_numbers_that_stand_for_them() -> None:
    with pytest.raises(ValueError, match="embedding_dim must be at least 1 with classes; got 0"):
        DcganConfig(**arguments(num_classes=10, image_size=8) | {"embedding_dim": 0})


def test_generator_rejects_a_label_when_unconditional() -> None:
    with pytest.raises(ValueError, match="label must be absent"):
        Generator(**arguments(num_classes=0, image_size=8))(torch.randn(2, 6), torch.arange(2))


@pytest.mark.parametrize("image_size", [0, 4, 7, 9, 33, 36])
def test_networks_reject_an_image_size_that_they_cannot_halve_down_to_their_start(image_size: int) -> None:
    with pytest.raises(ValueError, match=f"power of two, from 8 up, as 28, 32, 48 or 64; got {image_size}"):
        Generator(**arguments(num_classes=0, image_size=image_size))
