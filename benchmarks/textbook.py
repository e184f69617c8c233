"""The generator that the measurements use: the textbook DCGAN, 64x64x3, 0.21 GFLOP an image, random weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from export.adapters.checkpoint import load_checkpoint
from export.options import ExportOptions
from export.pipeline import export_model
from training.families.blocks import DcganConfig
from training.untrained import save_untrained

NAME = "dcgan64"
NETWORK = DcganConfig(latent_dim=100, num_classes=0, embedding_dim=0, image_size=64, image_channels=3, base_channels=64)


def export_textbook_model(repository: Path, *, num_threads: int) -> None:
    """Export it as NAME through the real pipeline."""
    with tempfile.TemporaryDirectory(prefix="ganvas-bench-") as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        save_untrained(checkpoint, family="gan", network=NETWORK)
        export_model(load_checkpoint(checkpoint), ExportOptions(name=NAME, repository=repository, threads=num_threads))
