"""Distances in the features of a frozen network."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional

from training.efficientnet import load_efficientnet
from training.objectives.perceptual import PerceptualDistance

DISTANCE = PerceptualDistance()


def photo(size: int = 64) -> Tensor:
    """[1, 3, size, size] in [0, 1]: scikit-learn's photograph of the Summer Palace."""
    whole = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1)[None].float() / 255
    return functional.interpolate(whole[..., :427, 100:527], size=(size, size), mode="bilinear", antialias=True)


def test_equal_images_are_0_apart_and_each_image_has_its_own_distance() -> None:
    image = photo()
    noisy = (image + 0.2 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    near, far = DISTANCE(torch.cat([image, noisy]), image.expand(2, -1, -1, -1)).tolist()
    assert near == pytest.approx(0.0, abs=1e-6)
    assert far > 0.1


def test_blur_is_further_than_a_brightness_of_the_same_error() -> None:
    """What the pixels' error cannot see: a blurred photograph looks worse than one that is a little darker."""
    image = photo()
    blurred = functional.avg_pool2d(functional.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)
    darker = image - (blurred - image).square().mean().sqrt()
    assert (darker - image).square().mean().item() == pytest.approx((blurred - image).square().mean().item(), rel=1e-4)
    assert DISTANCE(blurred, image).item() > 2 * DISTANCE(darker, image).item()


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 28, 28), (2, 4, 96, 80)])
def test_images_of_any_channels_and_size_get_a_gradient_and_references_none(shape: tuple[int, ...]) -> None:
    images, references = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    images.requires_grad_(True)
    references.requires_grad_(True)
    distances = DISTANCE(images, references)
    assert distances.shape == (2,)
    torch.autograd.backward(distances.sum())
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert (images.grad[:, :3].abs().amax(dim=(1, 2, 3)) > 0).all()
    assert references.grad is None


def test_network_stays_frozen_and_apart_from_the_one_that_judges() -> None:
    before = {name: tensor.clone() for name, tensor in load_efficientnet().state_dict().items()}
    torch.autograd.backward(DISTANCE(photo().requires_grad_(True), photo(32).repeat(1, 1, 2, 2)).sum())
    assert all(torch.equal(tensor, before[name]) for name, tensor in load_efficientnet().state_dict().items())
    assert all(parameter.grad is None for parameter in load_efficientnet().parameters())
