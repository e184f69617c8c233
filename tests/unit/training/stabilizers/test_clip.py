from __future__ import annotations

import pytest
import torch
from torch import nn

from training.stabilizers.clip import clip_before_step


@pytest.mark.parametrize(("gradient", "moved"), [((30.0, 40.0), (0.6, 0.8)), ((0.3, 0.4), (0.3, 0.4))])
def test_step_moves_by_the_gradient_or_by_the_largest_norm(
    gradient: tuple[float, float], moved: tuple[float, float]
) -> None:
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    clip_before_step(optimizer, 1.0)
    for parameter, value in zip(parameters, gradient, strict=True):
        parameter.grad = torch.tensor([value])
    optimizer.step()
    assert [-parameter.item() for parameter in parameters] == pytest.approx(moved, rel=1e-4)
