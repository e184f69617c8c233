from __future__ import annotations

import pytest
import torch

from training.stabilizers.ema import ema_decay, update_ema


def test_ema_decay_starts_short_and_ends_at_its_limit() -> None:
    assert ema_decay(0) == pytest.approx(0.1)
    assert ema_decay(90) == pytest.approx(0.91)
    assert ema_decay(1_000_000) == 0.999


def test_update_ema_averages_weights_and_batch_norm_buffers_and_copies_counters() -> None:
    average, network = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    network(torch.randn(8, 2, 4, 4) + 5)
    network.weight.data.fill_(2.0)
    update_ema(average, network, decay=0.75)
    assert average.weight.tolist() == [1.25, 1.25]
    assert torch.allclose(average.running_mean, 0.25 * network.running_mean)  # type: ignore[arg-type, operator]
    assert average.num_batches_tracked == 1
