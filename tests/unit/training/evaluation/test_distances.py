"""Our distances and shares against torchmetrics, prdc and closed forms."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.evaluation.distances import Floats, frechet_distance, kernel_distance, kernel_estimate
from training.evaluation.neighbors import (
    authenticity,
    manifold,
    memorization,
    nearest,
    pixel_features,
    repetition,
)
from training.evaluation.sharpness import relative_detail
from training.evaluation.variational import psnr, ssim


def normal(count: int, *, dims: int = 6, mean: float = 0.0, scale: float = 1.0, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(mean, scale, (count, dims))


class Rows(nn.Module):
    """Gives torchmetrics our features as they are: the pixels of [N, 3, 1, D/3] images."""

    num_features = 6

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def as_images(features: Floats) -> Tensor:
    return torch.from_numpy(features).reshape(-1, 3, 1, features.shape[1] // 3)


def test_frechet_distance_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, fake = normal(300), normal(200, mean=0.3, scale=1.4, seed=1)
    theirs = FrechetInceptionDistance(feature=Rows(), normalize=True, input_img_size=(3, 1, 2))
    theirs.set_dtype(torch.float64)
    theirs.update(as_images(real), real=True)
    theirs.update(as_images(fake), real=False)
    assert frechet_distance(real, fake) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_frechet_distance_of_shifted_features_is_the_squared_shift() -> None:
    features = normal(500)
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(features, features + 2.0) == pytest.approx(6 * 4.0, rel=1e-6)


def test_kernel_distance_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    real, fake = normal(200), normal(200, mean=0.5, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps the features
        theirs = KernelInceptionDistance(feature=Rows(), normalize=True, subsets=1, subset_size=200)
    theirs.update(as_images(real), real=True)
    theirs.update(as_images(fake), real=False)
    expected, _ = theirs.compute()
    assert kernel_distance(real, fake, num_subsets=1, subset_size=200).mean == pytest.approx(float(expected), rel=1e-4)


def test_kernel_distance_is_unbiased_and_has_a_spread() -> None:
    alike, apart = (
        kernel_distance(normal(400), normal(400, seed=1)),
        kernel_distance(normal(400), normal(400, mean=1.0)),
    )
    assert abs(alike.mean) < 2 * alike.std
    assert apart.mean > 10 * apart.std > 0


def test_kernel_distances_spread_is_what_other_held_out_images_change() -> None:
    """Of few held-out images, which subsets of all of them would not show."""
    samples = normal(500, mean=0.7, scale=0.2)
    found = [kernel_distance(samples, normal(30, seed=draw)) for draw in range(1, 101)]
    spread = float(np.std([distance.mean for distance in found]))
    assert float(np.mean([distance.std for distance in found])) == pytest.approx(spread, rel=0.25)


def test_kernel_estimate_is_the_kernel_distance_of_all_rows() -> None:
    real, fake = normal(100), normal(100, mean=0.5, seed=1)
    whole = kernel_distance(real, fake, num_subsets=1, subset_size=100).mean
    assert kernel_estimate(real, fake).value == pytest.approx(whole, rel=1e-9)


def test_kernel_estimates_error_is_its_spread_over_other_draws() -> None:
    """Few held-out images, many samples."""
    found = [
        kernel_estimate(normal(200, mean=0.7, seed=2 * draw), normal(30, seed=2 * draw + 1)) for draw in range(100)
    ]
    spread = float(np.std([estimate.value for estimate in found]))
    assert float(np.mean([estimate.error for estimate in found])) == pytest.approx(spread, rel=0.25)


def test_few_held_out_images_mislead_the_frechet_distance_and_not_the_kernel_distance() -> None:
    """Of fewer images than features: a generator of half the variety looks better than the true distribution."""
    held_out, true = normal(20, dims=64, seed=1), normal(500, dims=64, seed=2)
    dull = normal(500, dims=64, scale=0.5, seed=3)
    assert frechet_distance(dull, held_out) < 0.85 * frechet_distance(true, held_out)
    lower, own = kernel_estimate(dull, held_out), kernel_estimate(true, held_out)
    assert own.value - lower.value < 2 * lower.error


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_manifold_is_that_of_prdc(mean: float) -> None:
    from prdc import compute_prdc

    real, fake = normal(150), normal(120, mean=mean, seed=1)
    theirs, ours = compute_prdc(real, fake, nearest_k=5), manifold(real, fake)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(ours, name) == pytest.approx(theirs[name], abs=1e-9), name


def test_nearest_leaves_out_the_row_itself() -> None:
    rows = np.array([[0.0], [1.0], [3.0]])
    found = nearest(rows, rows, leave_one_out=True)
    assert found.distance.tolist() == [1.0, 1.0, 2.0]
    assert found.index.tolist() == [1, 0, 1]


def test_memorized_shares_are_counted_below_the_percentile_and_three_quarters_of_it() -> None:
    real = np.arange(1.0, 102.0)  # the 5th percentile is 6
    found = memorization(np.array([1.0, 4.4, 4.6, 5.9, 6.1, 50.0, 60.0, 70.0, 80.0, 90.0]), real)
    assert (found.threshold, found.share, found.strict_share) == (6.0, 0.4, 0.2)
    assert found.real_strict_share == pytest.approx(4 / 101)


def test_authenticity_is_low_for_copies_and_high_for_far_samples() -> None:
    train = normal(200)
    assert authenticity(train + 1e-4, train) == 0.0
    assert authenticity(train + 10.0, train) == 1.0


def test_repetition_counts_near_copies_as_one() -> None:
    train, distinct = normal(300), normal(30, seed=1)
    copies = np.repeat(distinct[:10], 3, axis=0) + normal(30, scale=1e-4, seed=2)
    found = repetition(np.concatenate([copies, distinct[10:]]), train)
    assert found.num_distinct == 30
    assert found.share == pytest.approx(30 / 50)


def test_pixels_are_averaged_down_to_32() -> None:
    images = torch.full((3, 3, 64, 64), 255, dtype=torch.uint8)
    assert pixel_features(images).shape == (3, 3 * 32 * 32)
    assert pixel_features(images).max() == 1.0


def test_detail_tells_blur_and_noise_from_real_images() -> None:
    real = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.avg_pool2d(real.float(), 3, 1, 1).round().to(torch.uint8)
    assert relative_detail(smooth, real) < 0.7
    assert relative_detail(real, smooth) > 1.4
    assert relative_detail(real, real) == 1.0


def test_psnr_and_ssim_of_equal_and_of_shifted_images() -> None:
    images = torch.randint(0, 200, (4, 1, 16, 16), dtype=torch.uint8)
    assert psnr(images, images) == 100.0
    assert psnr(images + 10, images) == pytest.approx(10 * np.log10(255**2 / 100))
    assert ssim(images, images) == pytest.approx(1.0, abs=1e-4)
    assert ssim(images.flip(3), images) < 0.5
