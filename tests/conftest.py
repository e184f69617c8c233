"""What every ring shares: a model repository made by the real export, and a real Triton that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from serving.triton.process import TritonProcess


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The whole suite runs in two processes: what starts servers in one of them, the rest by files in the other."""
    if config.getoption("dist", "no") == "no":
        return
    for item in items:
        ring = item.path.relative_to(Path(__file__).parent).parts[0]
        group = "servers" if ring in ("real", "service") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-gan (conditional, 32x32x1), tiny-vae (conditional, 32x32x1), plain-gan (unconditional, 16x16x3).

    Read-only by convention: a test that changes a file works on a copy.
    """
    from export.adapters.checkpoint import load_checkpoint
    from export.options import ExportOptions
    from export.pipeline import export_model
    from training.config import NetworkConfig
    from training.families.blocks import DcganConfig
    from training.families.vae import VaeNetwork
    from training.untrained import save_untrained

    networks: dict[str, NetworkConfig] = {
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
    folder = tmp_path_factory.mktemp("repository")
    for seed, (name, network) in enumerate(networks.items()):
        checkpoint = tmp_path_factory.mktemp(name) / "checkpoint"
        save_untrained(checkpoint, family="vae" if name.endswith("vae") else "dcgan", network=network, seed=seed)
        export_model(load_checkpoint(checkpoint), ExportOptions(name=name, repository=folder))
    return folder


@pytest.fixture(scope="session")
def triton(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonProcess]:
    """A real Triton on free ports, ready, with every model of `model_repository`."""
    from serving.repository.reader import read_repository
    from serving.triton.process import TritonOptions, TritonProcess

    options = TritonOptions(
        repository=model_repository,
        models=read_repository(model_repository).triton_models(),
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        log_file=tmp_path_factory.mktemp("triton") / "triton.log",
    )
    process = TritonProcess(options)
    process.start()
    try:
        process.wait_ready(60)
        yield process
    finally:
        process.stop()
