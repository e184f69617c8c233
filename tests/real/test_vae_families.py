"""Every family of VAEs: trained, exported with its learned prior, served by a real Triton and sampled."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.adapters.checkpoint import load_checkpoint
from export.options import ExportOptions
from export.pipeline import export_model
from ganvas_core import noise
from ganvas_core.certificate import Certificate
from ganvas_core.interface import decode_inputs, sample_inputs
from tests.support.training import TINY, TINY_UNCONDITIONAL, tiny_config, tiny_network
from tests.support.triton import client, infer, running
from training.loop import train
from training.run.folder import create

pytestmark = pytest.mark.triton

MODELS: dict[str, tuple[str, Any]] = {
    "vae": ("vae", dataclasses.replace(tiny_network("vae"), prior_components=3)),
    "vae-plain": ("vae", tiny_network("vae", TINY_UNCONDITIONAL)),
    "vae-logistic": ("vae", dataclasses.replace(tiny_network("vae"), likelihood="logistic", prior_components=2)),
    "mlp-vae": ("mlp-vae", dataclasses.replace(tiny_network("mlp-vae", TINY), prior_components=3)),
    "vae-gan": ("vae-gan", dataclasses.replace(tiny_network("vae-gan"), prior_components=3)),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them in one model repository."""
    folder = tmp_path_factory.mktemp("vaes")
    for name, (family, network) in MODELS.items():
        config = tiny_config(family, network=network, total_kimg=0.32, save_kimg=0.32, samples_kimg=0.32)
        create(folder / name, config, overwrite=False)
        assert train(config, folder / name).finished
        options = ExportOptions(
            name=name,
            repository=folder / "models",
            max_batch_size=3,
            num_golden=2,
            num_parity_seeds=6,
            num_half_seeds=16,
        )
        export_model(load_checkpoint(folder / name / "checkpoint"), options)
    return folder / "models"


def test_every_vae_is_served_as_it_was_proven(repository: Path) -> None:
    certificates = {entry.name: Certificate.read(entry / "1") for entry in repository.iterdir()}
    assert len(certificates) == 3 * len(MODELS)
    seeds, psi = [0, 1, 2**63, 2**64 - 1], 0.5
    with running(repository, sorted(certificates)) as triton, client(triton) as caller:
        for name in MODELS:
            certificate = certificates[name]
            assert certificate.roles == ("sample", "decode", "encode")
            assert (certificate.prior is None) == (name == "vae-plain")
            labels = 1 if certificate.labels else None
            for truncation in (1.0, psi):
                rows = [infer(caller, name, sample_inputs([seed], truncation, labels))["image"] for seed in seeds]
                together = infer(caller, name, sample_inputs(seeds[:3], truncation, labels))["image"]
                assert together.tobytes() == np.concatenate(rows[:3]).tobytes(), name
                latents = noise.truncated_latents(seeds, truncation, certificate.latent_shape, certificate.prior)
                decoded = infer(caller, f"{name}-decode", decode_inputs(latents[:3], labels))["image"]
                assert decoded.tobytes() == together.tobytes(), name
            posterior = infer(caller, f"{name}-encode", {"image": together})
            assert posterior["mean"].shape == posterior["logvar"].shape == (3, *certificate.latent_shape)
            assert np.isfinite(posterior["mean"]).all()
