"""Networks and runs small enough to train in a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training.config import TrainConfig
from training.families import FAMILIES
from training.families.blocks import DcganConfig
from training.presets import load_preset
from training.run.checkpoint import save_model
from training.run.checkpoints import Checkpoints
from training.run.info import CheckpointInfo, DatasetInfo, ImageFormat
from training.run.resume import RESUME_NAME

TINY = DcganConfig(latent_dim=4, num_classes=10, embedding_dim=3, image_size=8, image_channels=1, base_channels=4)
TINY_UNCONDITIONAL = dataclasses.replace(TINY, num_classes=0, embedding_dim=0)


def tiny_network(family: str, network: DcganConfig = TINY) -> Any:
    """The network configuration of a family, as near to `network` as it comes."""
    values = dataclasses.asdict(network)
    if "vae" in family:
        values = {"prior_components": 0} | values
    if family == "mlp-vae":
        values = {name: value for name, value in values.items() if name != "base_channels"} | {"hidden_dim": 16}
    return FAMILIES[family].parse_network(values)


def tiny_config(family: str, **options: Any) -> TrainConfig:
    """A preset cut down to 8x8 images and a dozen steps of 16 images, on one thread."""
    network = tiny_network(family, options.pop("network", TINY))
    small: dict[str, Any] = {"network": network, "total_kimg": 0.2, "batch_size": 16, "threads": 1, "device": "cpu"}
    if family in ("dcgan", "vae-gan"):
        small |= {"discriminator_channels": 4}
    if family == "dcgan":  # the preset's are tuned now and then
        small |= {"loss": "relativistic", "penalty": "r1+r2", "gamma": 1.0, "final_gamma": None, "augment": "auto"}
        small |= {"discriminator_learning_rate": None, "final_learning_rate": None}
    preset = {"dcgan": "digits-gan"}.get(family, f"digits-{family}")
    return dataclasses.replace(load_preset(preset), **(small | options))


def tiny_info(family: str, **changes: Any) -> CheckpointInfo:
    network = changes.get("network") or tiny_network(family)
    height, width, channels = network.image_shape
    info = CheckpointInfo(
        family=family,
        preset="tiny",
        network=network,
        image=ImageFormat(height=height, width=width, channels=channels, range=FAMILIES[family].image_range),
        labels=tuple("0123456789"[: network.num_classes]),
        dataset=DatasetInfo(name="digits", size=1797, sha256="0" * 64),
        metrics={"label_accuracy": 0.5},
        kimg=0.2,
        seed=3,
        torch=torch.__version__,
    )
    return dataclasses.replace(info, **changes)


def save_tiny(folder: Path, family: str = "dcgan", network: DcganConfig = TINY, *, layers: str | None = None) -> None:
    """A checkpoint of untrained networks. layers: of a VAE's body."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = tiny_network(family, network)
        if family == "vae" and layers is not None:
            own = dataclasses.replace(own, body=layers)
        generator, encoder = FAMILIES[family].build(own)
    save_model(folder, tiny_info(family, network=own), generator, encoder)


def weights_of(run: Path) -> dict[str, bytes]:
    """Every tensor of a run's newest checkpoint and of its resume state, as bytes."""
    newest = Checkpoints(run, num_last=1).newest()
    assert newest is not None
    tensors = load_file(newest / "model.safetensors") | load_file(newest / RESUME_NAME)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
