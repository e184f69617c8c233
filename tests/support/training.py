"""Networks and runs small enough to train in a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training.checkpoint import DatasetInfo, ImageInfo, ModelInfo, NetworkInfo, build_networks, save_model
from training.presets import PRESETS, GanConfig, VaeConfig
from training.run_folder import CHECKPOINT_NAME

TINY = NetworkInfo(latent_dim=4, num_classes=10, embedding_dim=3, image_size=8, image_channels=1, base_channels=4)


def tiny_config(family: str, **options: Any) -> GanConfig | VaeConfig:
    """A preset cut down to 8x8 images and a dozen steps of 16 images, on one thread."""
    small: dict[str, Any] = {"network": TINY, "total_kimg": 0.2, "batch_size": 16, "threads": 1, "precision": "fp32"}
    if family == "gan":
        small |= {"discriminator_channels": 4}
    return dataclasses.replace(PRESETS[f"digits-{family}"], **(small | options))


def tiny_info(family: str, **changes: Any) -> ModelInfo:
    info = ModelInfo(
        family="gan" if family == "gan" else "vae",
        preset="tiny",
        network=TINY,
        image=ImageInfo(height=8, width=8, channels=1, range=(-1.0, 1.0) if family == "gan" else (0.0, 1.0)),
        labels=tuple("0123456789"),
        dataset=DatasetInfo(name="digits", size=1797, sha256="0" * 64),
        metrics={"label_accuracy": 0.5},
        kimg=0.2,
        seed=3,
        torch=torch.__version__,
    )
    return dataclasses.replace(info, **changes)


def save_tiny(folder: Path, family: str = "gan") -> None:
    """A checkpoint of untrained networks."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator, encoder = build_networks("gan" if family == "gan" else "vae", TINY)
    save_model(folder, tiny_info(family), generator, encoder)


def weights_of(run: Path) -> dict[str, bytes]:
    """Every tensor of a run's checkpoint and resume state, as bytes."""
    tensors = load_file(run / CHECKPOINT_NAME / "model.safetensors") | load_file(run / "resume.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
