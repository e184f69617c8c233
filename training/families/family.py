"""What a family is: a kind of generative model that can be trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from ganvas_core.cli import describe_validation_error
from training.config import NetworkConfig, TrainConfig

__all__ = ["Family", "Networks", "Trainer"]

Networks = tuple[nn.Module, nn.Module | None]
"""A generator (z, label) → images, and an encoder images → (mean, logvar) where the family has one."""


class Trainer(Protocol):
    """The networks of one run, their averages and optimizers, and the training step."""

    @property
    def generator_ema(self) -> nn.Module:
        """(z, label) → [N, C, H, W]: what is sampled from and saved."""
        ...

    @property
    def encoder_ema(self) -> nn.Module | None:
        """[N, C, H, W] → mean and logvar, where the family has an encoder."""
        ...

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Every network and average by name: the resume state holds them all."""
        ...

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]: ...

    @property
    def state(self) -> Mapping[str, float]:
        """What the resume state must hold beside modules and optimizers: small numbers by name."""
        ...

    def load_state(self, state: Mapping[str, float]) -> None:
        """Take back what `state` gave."""
        ...

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply every learning rate by factor, from the next step on."""
        ...

    def step(self, step: int, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Train on one batch.

        Args:
            step: steps done before this one.
            images: [N, C, H, W] float32 in the family's image_range.
            labels: [N] int64; None for an unconditional model.
            rng: every random number of the step comes from here.
        Returns:
            The losses by name, as they stood before the update.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Family:
    """One entry of FAMILIES."""

    name: str
    config_type: type[TrainConfig]
    network_type: type[Any]
    """A pydantic dataclass that is a NetworkConfig."""
    image_range: tuple[float, float]
    """Range of the generator's output, and of the images given to the encoder and the discriminator."""
    build: Callable[[Any], Networks]
    """Network configuration → fresh networks, drawn from PyTorch's global random stream."""
    trainer: Callable[[Any, int], Trainer]
    """Training configuration, number of training images → trainer, drawn from PyTorch's global random stream."""

    def parse_network(self, value: object) -> NetworkConfig:
        """A network configuration from a TOML or JSON object.

        Raises:
            ValueError: names the field that is wrong, its value and its limit.
        """
        try:
            network: NetworkConfig = TypeAdapter(self.network_type).validate_json(json.dumps(value, default=str))
        except ValidationError as error:
            raise ValueError(describe_validation_error(error)) from None
        return network
