from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from training.stabilizers.ema import ema_decay, update_ema


def test_ema_decay_halves_the_past_in_one_halflife_whatever_the_batch() -> None:
    for batch_size in (16, 64):
        decay = ema_decay(batch_size=batch_size, num_images=10_000_000, halflife_kimg=8)
        assert decay ** (8000 / batch_size) == pytest.approx(0.5)


def test_ema_decay_starts_short_and_reaches_its_full_length() -> None:
    first = ema_decay(batch_size=64, num_images=64, halflife_kimg=10)
    later = [ema_decay(batch_size=64, num_images=n, halflife_kimg=10) for n in (100_000, 200_000, 400_000)]
    assert first < 1e-3
    assert later[0] < later[1] == later[2]


def test_update_ema_averages_weights_and_batch_norm_buffers_and_copies_counters() -> None:
    average, network = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    network(torch.randn(8, 2, 4, 4) + 5)
    network.weight.data.fill_(2.0)
    update_ema(nn.Sequential(average), nn.Sequential(network), decay=0.75)
    assert average.weight.tolist() == [1.25, 1.25]
    assert torch.allclose(average.running_mean, 0.25 * network.running_mean)  # type: ignore[arg-type, operator]
    assert average.num_batches_tracked == 1


def test_average_of_a_spectrally_normalized_layer_has_norm_one() -> None:
    torch.manual_seed(0)
    network = spectral_norm(nn.Linear(12, 12, bias=False))
    average = copy.deepcopy(network).eval()
    for _ in range(30):  # Weights that wander: the leading direction turns.
        with torch.no_grad():
            network.get_parameter("parametrizations.weight.original").add_(0.15 * torch.randn(12, 12))
        for _ in range(5):
            network(torch.randn(2, 12))
        update_ema(average, network, decay=0.9)
    with torch.no_grad():
        weight = average(torch.eye(12))
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, abs=0.05)
