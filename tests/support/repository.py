"""A model repository that the real export made of three small networks of random weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from export.adapters.checkpoint import load_checkpoint
from export.options import ExportOptions
from export.pipeline import export_model
from training.config import NetworkConfig
from training.families.blocks import DcganConfig
from training.families.vae import VaeNetwork
from training.untrained import save_untrained

__all__ = ["export_tiny_models"]

NETWORKS: dict[str, NetworkConfig] = {
    "tiny-gan": DcganConfig(
        latent_dim=16, num_classes=10, embedding_dim=8, image_size=32, image_channels=1, base_channels=8
    ),
    "tiny-vae": VaeNetwork(
        latent_dim=8,
        num_classes=10,
        embedding_dim=8,
        image_size=32,
        image_channels=1,
        base_channels=8,
        body="dcgan",
        prior_components=10,
    ),
    "plain-gan": DcganConfig(
        latent_dim=12, num_classes=0, embedding_dim=0, image_size=16, image_channels=3, base_channels=8
    ),
}
"""Two that are conditional, 32x32x1, and one that is not, 16x16x3."""


def export_tiny_models(folder: Path) -> None:
    """Export each, untrained, into a model repository."""
    for seed, (name, network) in enumerate(NETWORKS.items()):
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = Path(scratch) / "checkpoint"
            save_untrained(checkpoint, family="vae" if name.endswith("vae") else "dcgan", network=network, seed=seed)
            export_model(load_checkpoint(checkpoint), ExportOptions(name=name, repository=folder))
