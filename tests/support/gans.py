"""Every adversarial family, tiny."""

from __future__ import annotations

from typing import Any

from training.families.adversarial import AdversarialConfig
from training.presets import parse_config

__all__ = ["TINY_GANS", "tiny_gan"]

TINY_GANS: dict[str, dict[str, Any]] = {
    "dcgan": {
        "network": {"image_size": 8, "base_channels": 4},
        "discriminator_channels": 4,
    },
    "mlp-gan": {
        "network": {"image_size": 8, "hidden_dim": 16, "num_layers": 2},
        "discriminator_dim": 16,
    },
    "r3gan": {
        "network": {"image_size": 8, "stage_channels": [8, 8], "blocks_per_stage": 1, "group_channels": 4},
    },
    "residual-gan": {
        "network": {"image_size": 16, "base_channels": 2, "attention_size": 8},
        "discriminator_channels": 2,
        "spectral_norm": False,
    },
}
"""Options of each, beside the common ones."""


def tiny_gan(family: str, *, num_classes: int = 3, image_channels: int = 1, **options: Any) -> AdversarialConfig:
    """A configuration that trains in milliseconds: some steps of 8 images."""
    own = TINY_GANS[family]
    network = {
        "latent_dim": 4,
        "num_classes": num_classes,
        "embedding_dim": 3 if num_classes else 0,
        "image_channels": image_channels,
        **own["network"],
    }
    record = {
        "preset": "tiny",
        "data": "digits",
        "family": family,
        "total_kimg": 0.032,
        "batch_size": 8,
        "save_kimg": 1.0,
        "samples_kimg": 1.0,
        **own,
        **options,
        "network": network,
    }
    config = parse_config(record, where="tiny")
    assert isinstance(config, AdversarialConfig)
    return config
