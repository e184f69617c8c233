"""Every ready adapter at two sizes: exported, verified, served by a real Triton and sampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.adapters.load import load_source
from export.options import CheckpointExportOptions
from export.pipeline import export_model
from ganvas_core import noise
from ganvas_core.certificate import Certificate
from ganvas_core.interface import decode_inputs, sample_inputs
from tests.support.extent import ALL
from tests.support.families import biggan_folder, dcgan_file, stylegan2_file, vae_folder
from tests.support.triton import client, infer, running

pytestmark = pytest.mark.triton

MAX_BATCH_SIZE = 3
HALF = ("dcgan-16", "kl", "tiny", "sg", "example", *(["biggan-16"] if ALL else []))
"""Exported in half precision too: one size of each family. BigGAN's search for what to keep in fp32 takes longest."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, and the example of `./ganvas export --adapter`, in one model repository."""
    folder = tmp_path_factory.mktemp("families")
    # BigGAN's graph takes the exporter longest: its second size is tried when all are.
    names = ["dcgan-16", "dcgan-32", "kl", "kl-wide", "tiny", "tiny-wide", "biggan-16", "sg", "sg-wide"]
    names += ["biggan-32"] if ALL else []
    made = {name: folder / name for name in names}
    for path in made.values():
        path.mkdir()
    sources: dict[str, tuple[str, Path | None, str | None]] = {
        "dcgan-16": ("dcgan", dcgan_file(made["dcgan-16"], size=16), None),
        "dcgan-32": ("dcgan", dcgan_file(made["dcgan-32"], size=32, channels=1), None),
        "kl": ("diffusers-vae", vae_folder(made["kl"], tiny=False), "16x16"),
        "kl-wide": ("diffusers-vae", vae_folder(made["kl-wide"], tiny=False), "8x24"),
        "tiny": ("diffusers-vae", vae_folder(made["tiny"], tiny=True), "16x16"),
        "tiny-wide": ("diffusers-vae", vae_folder(made["tiny-wide"], tiny=True), "16x24"),
        "biggan-16": ("biggan", biggan_folder(made["biggan-16"], size=16), None),
        "sg": ("stylegan2", stylegan2_file(made["sg"], doublings=1), None),
        "sg-wide": ("stylegan2", stylegan2_file(made["sg-wide"], start=(4, 6), doublings=2), None),
        "example": ("export/adapters/example.py", None, None),
    }
    if ALL:
        sources["biggan-32"] = ("biggan", biggan_folder(made["biggan-32"], size=32), None)
    for name, (adapter, weights, image_size) in sources.items():
        options = CheckpointExportOptions(
            name=name,
            adapter=adapter,
            weights=weights,
            image_size=image_size,
            repository=folder / "models",
            max_batch_size=MAX_BATCH_SIZE,
            precision="auto" if name in HALF else "fp32",
            num_golden=2,
            num_parity_seeds=6,
            num_half_seeds=16,
        )
        export_model(load_source(options), options)
    return folder / "models"


def test_every_family_is_served_as_it_was_proven(repository: Path) -> None:
    certificates = {entry.name: Certificate.read(entry / "1") for entry in repository.iterdir()}
    assert len(certificates) == (11 if ALL else 10) * 2 + 4
    seeds = [0, 1, 2**63]
    with running(repository, sorted(certificates)) as triton, client(triton) as caller:
        for name, certificate in certificates.items():
            certificate.check_files(repository / name / "1")
            if certificate.role != "sample":
                continue
            labels = 1 if certificate.labels else None
            size = (certificate.height, certificate.width, certificate.channels)
            images = infer(caller, name, sample_inputs(seeds, 1.0, labels))["image"]
            assert images.shape == (3, *size)
            assert images.dtype == np.uint8
            assert images.std() > 5, name
            # One by one, and decoded from their latents: the same bytes.
            for i, seed in enumerate(seeds):
                alone = infer(caller, name, sample_inputs([seed], 1.0, labels))["image"]
                assert alone.tobytes() == images[i : i + 1].tobytes(), name
            latents = noise.latents(seeds, certificate.latent_shape)
            decoded = infer(caller, f"{name}-decode", decode_inputs(latents, labels))["image"]
            assert decoded.tobytes() == images.tobytes(), name
            # The truncation is the image's own.
            assert infer(caller, name, sample_inputs(seeds, 0.5, labels))["image"].tobytes() != images.tobytes(), name
            if "encode" in certificate.roles:
                posterior = infer(caller, f"{name}-encode", {"image": images})
                assert posterior["mean"].shape == posterior["logvar"].shape == latents.shape
                assert np.isfinite(posterior["mean"]).all()
