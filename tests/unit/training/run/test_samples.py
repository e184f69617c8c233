from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganvas_core.noise import latents
from tests.support.training import TINY, tiny_network
from training.families import FAMILIES
from training.families.dcgan import Generator
from training.run.samples import draw_samples, reconstruction_grid, sample_grid, to_uint8


def test_sample_grid_shows_what_the_sampler_answers_for_seed_and_label() -> None:
    generator = FAMILIES["dcgan"].build(TINY)[0].eval()
    grid = sample_grid(generator, latent_shape=(4,), num_classes=10, image_range=(-1.0, 1.0))
    assert grid.shape == (102, 102, 1)
    z = torch.from_numpy(latents([3], 4))
    with torch.no_grad():
        expected = to_uint8(generator(z, torch.tensor([7])), (-1.0, 1.0))[0]
    shown = grid[2 + 3 * 10 : 2 + 3 * 10 + 8, 2 + 7 * 10 : 2 + 7 * 10 + 8]
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_sample_grid_of_an_unconditional_generator_shows_a_hundred_seeds() -> None:
    generator = Generator(
        latent_dim=4, num_classes=0, embedding_dim=0, image_size=8, image_channels=3, base_channels=4
    ).eval()
    grid = sample_grid(generator, latent_shape=(4,), num_classes=0, image_range=(-1.0, 1.0))
    assert grid.shape == (102, 102, 3)
    assert len({grid[y : y + 8, x : x + 8].tobytes() for y in range(2, 102, 10) for x in range(2, 102, 10)}) == 100


def test_draw_samples_of_a_seed_is_the_same_among_others() -> None:
    generator = FAMILIES["dcgan"].build(TINY)[0].eval()
    labels = torch.arange(250) % 10
    many = draw_samples(generator, torch.arange(250), labels, latent_shape=(4,))
    alone = draw_samples(generator, torch.tensor([249]), labels[249:], latent_shape=(4,))
    assert torch.allclose(many[249:], alone, atol=1e-6)


def test_reconstruction_grid_shows_the_images_above_their_reconstructions() -> None:
    decoder, encoder = FAMILIES["vae"].build(tiny_network("vae"))
    assert encoder is not None
    images = (torch.rand(5, 1, 8, 8) * 255).round() / 255
    grid = reconstruction_grid(encoder.eval(), decoder.eval(), images, torch.arange(5), (0.0, 1.0))
    assert grid.shape == (22, 52, 1)
    assert np.array_equal(grid[2:10, 2:10], to_uint8(images, (0.0, 1.0))[0])


@given(st.floats(-3, 3), st.sampled_from([(-1.0, 1.0), (0.0, 1.0)]))
def test_to_uint8_stays_in_range_and_is_within_half_a_level(value: float, image_range: tuple[float, float]) -> None:
    low, high = image_range
    (level,) = to_uint8(torch.full((1, 1, 1, 1), value), image_range).reshape(-1)
    exact = (min(max(value, low), high) - low) / (high - low) * 255
    assert abs(int(level) - exact) <= 0.5 + 1e-3
