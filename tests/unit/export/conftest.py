"""Small untrained models and one export of each, shared by every test here; a test that changes one takes a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from export.adapters.checkpoint import load_checkpoint
from export.adapters.source import Source
from export.graph.build import Graphs, Networks, add_fp16_files, build_graphs, export_networks
from export.options import ExportOptions
from export.pipeline import ExportResult, export_model
from export.precision.plan import Plan, plan_by_rule
from training.families.blocks import DcganConfig
from training.families.vae import VaeNetwork
from training.untrained import save_untrained


def options(repository: Path = Path("models"), name: str = "digits", **changes: Any) -> ExportOptions:
    """A quick export, as `digits` unless `name` says otherwise."""
    values: dict[str, Any] = {"max_batch_size": 5, "num_golden": 4, "num_parity_seeds": 9, "num_half_seeds": 32}
    return ExportOptions(name=name, repository=repository, **(values | changes))


OPTIONS = options()


@dataclass(frozen=True, kw_only=True)
class Exported:
    checkpoint: Path
    repository: Path
    result: ExportResult


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A checkpoint folder of a random 16x16 network."""

    def make(family: Literal["gan", "vae"], *, num_classes: int = 3, latent_dim: int = 6, seed: int = 0) -> Path:
        values: dict[str, Any] = {
            "latent_dim": latent_dim,
            "num_classes": num_classes,
            "embedding_dim": 4 if num_classes else 0,
            "image_size": 16,
            "image_channels": 3 if family == "gan" else 1,
            "base_channels": 8,
        }
        network = DcganConfig(**values) if family == "gan" else VaeNetwork(**values, body="dcgan")
        folder = tmp_path_factory.mktemp(family) / "checkpoint"
        save_untrained(folder, family="dcgan" if family == "gan" else family, network=network, seed=seed)
        return folder

    return make


@pytest.fixture(scope="session")
def gan(make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A conditional GAN, 16x16x3, and its first export, as `digits`."""
    return _export(make_checkpoint("gan"), tmp_path_factory.mktemp("gan-repository") / "models")


@pytest.fixture(scope="session")
def vae(make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A conditional VAE, 16x16x1, and its first export, as `digits`."""
    return _export(make_checkpoint("vae"), tmp_path_factory.mktemp("vae-repository") / "models")


@pytest.fixture(scope="session")
def source(gan: Exported) -> Source:
    return load_checkpoint(gan.checkpoint)


@pytest.fixture(scope="session")
def networks(source: Source) -> Networks:
    return export_networks(source)


@pytest.fixture(scope="session")
def graphs(source: Source, networks: Networks) -> Graphs:
    """With fp16 files, planned by rule."""
    graphs = build_graphs(source, networks)
    return add_fp16_files(source, graphs, plan_by_rule(networks.generator), Plan())


@pytest.fixture
def repository(gan: Exported, tmp_path: Path) -> Path:
    """A copy of the GAN's model repository."""
    copy = tmp_path / "models"
    shutil.copytree(gan.repository, copy)
    return copy


def _export(checkpoint: Path, repository: Path) -> Exported:
    result = export_model(load_checkpoint(checkpoint), options(repository))
    return Exported(checkpoint=checkpoint, repository=repository, result=result)
