"""Every family of VAEs with every likelihood, and every loss of a VAE-GAN: trained, exported, served and sampled."""

from __future__ import annotations

import dataclasses
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.adapters.checkpoint import load_checkpoint
from export.options import ExportOptions
from export.pipeline import export_model
from ganvas_core.certificate import Certificate
from ganvas_core.interface import decode_inputs, sample_inputs
from tests.support.extent import ALL
from tests.support.gans import TINY_GANS
from tests.support.training import TINY_UNCONDITIONAL, tiny_config, tiny_network
from tests.support.triton import client, infer, running
from training.families import FAMILIES
from training.loop import train
from training.objectives.adversarial import ADVERSARIAL_LOSSES
from training.objectives.likelihoods import LIKELIHOODS
from training.run.folder import create

pytestmark = pytest.mark.triton

LAST = list(LIKELIHOODS)[-1]


def network(family: str, likelihood: str) -> Any:
    """An mlp-vae has components of each class's own."""
    num_components = 20 if family == "mlp-vae" else 2
    return dataclasses.replace(tiny_network(family), likelihood=likelihood, prior_components=num_components)


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae-plain": ("vae", {"network": tiny_network("vae", TINY_UNCONDITIONAL)}),
    **{
        f"{family}-{likelihood}": (family, {"network": network(family, likelihood)})
        for family in ("vae", "mlp-vae")
        for likelihood in LIKELIHOODS
    },
    **{
        f"vae-gan-{loss}": (
            "vae-gan",
            {
                "network": network("vae-gan", likelihood),
                "loss": loss,
                "penalty": "wgan-gp" if loss == "wasserstein" else "r1+r2",
            },
        )
        for loss, likelihood in zip(ADVERSARIAL_LOSSES, cycle(LIKELIHOODS), strict=False)
    },
}
WHOLE = ("vae-plain", "vae-bernoulli", "mlp-vae-bernoulli", "vae-gan-relativistic")
"""Served with decode and encode, and exported in half precision; of the others the samples are served."""

EXPORTED = (*MODELS,) if ALL else (*WHOLE, f"vae-{LAST}", f"mlp-vae-{LAST}", "vae-gan-wasserstein")
"""The others are trained only: a loss leaves no trace in the network's graph."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them in one model repository."""
    folder = tmp_path_factory.mktemp("vaes")
    for name, (family, options) in MODELS.items():
        config = tiny_config(family, total_kimg=0.064, save_kimg=1.0, samples_kimg=1.0, tensorboard=False, **options)
        create(folder / name, config, overwrite=False)
        assert train(config, folder / name).finished
        if name not in EXPORTED:
            continue
        export_options = ExportOptions(
            name=name,
            repository=folder / "models",
            max_batch_size=3,
            precision="auto" if name in WHOLE else "fp32",
            num_golden=2,
            num_parity_seeds=6,
            num_half_seeds=16,
        )
        export_model(load_checkpoint(folder / name / "checkpoint"), export_options)
    return folder / "models"


def test_every_family_is_exported_and_served_here_or_among_the_gans() -> None:
    assert {family for family, _ in MODELS.values()} | set(TINY_GANS) == set(FAMILIES)


def test_every_vae_is_served_as_it_was_proven(repository: Path) -> None:
    certificates = {entry.name: Certificate.read(entry / "1") for entry in repository.iterdir()}
    assert len(certificates) == 3 * len(EXPORTED)
    served = [*EXPORTED, *(f"{name}-{role}" for name in WHOLE for role in ("decode", "encode"))]
    seeds, psi = [0, 1, 2**63, 2**64 - 1], 0.5
    with running(repository, served) as triton, client(triton) as caller:
        for name in EXPORTED:
            certificate = certificates[name]
            assert certificate.roles == ("sample", "decode", "encode")
            assert (certificate.prior is None) == (name == "vae-plain")
            labels = 1 if certificate.labels else None
            for truncation in (1.0, psi):
                rows = [infer(caller, name, sample_inputs([seed], truncation, labels))["image"] for seed in seeds]
                together = infer(caller, name, sample_inputs(seeds[:3], truncation, labels))["image"]
                assert together.tobytes() == np.concatenate(rows[:3]).tobytes(), name
                if name in WHOLE:
                    latents = certificate.latents(seeds, truncation, [1] * len(seeds))
                    decoded = infer(caller, f"{name}-decode", decode_inputs(latents[:3], labels))["image"]
                    assert decoded.tobytes() == together.tobytes(), name
            if name in WHOLE:
                posterior = infer(caller, f"{name}-encode", {"image": together})
                assert posterior["mean"].shape == posterior["logvar"].shape == (3, *certificate.latent_shape)
                assert np.isfinite(posterior["mean"]).all()
