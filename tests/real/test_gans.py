"""Every adversarial family with every loss: trained for some steps, exported, served by a real Triton and sampled."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from export.adapters.checkpoint import load_checkpoint
from export.options import ExportOptions
from export.pipeline import export_model
from ganvas_core.certificate import Certificate
from ganvas_core.interface import sample_inputs
from ganvas_core.noise import latents
from tests.support.extent import ALL
from tests.support.gans import TINY_GANS, tiny_gan
from tests.support.training import tiny_info
from tests.support.triton import client, infer, running
from training.families import FAMILIES
from training.objectives.adversarial import ADVERSARIAL_LOSSES
from training.run.checkpoint import load_model, save_model

pytestmark = pytest.mark.triton

# Without ALL every pair is trained, and of each family the relativistic one is exported and another, so that every loss
# is: a loss leaves no trace in the network's graph.
OTHERS = [loss for loss in ADVERSARIAL_LOSSES if loss != "relativistic"]


def is_exported(family: str, loss: str) -> bool:
    place = list(TINY_GANS).index(family)
    return ALL or loss in ("relativistic", *OTHERS[place :: len(TINY_GANS)])


PAIRS = [f"{family}-{loss}" for family, loss in product(TINY_GANS, ADVERSARIAL_LOSSES) if is_exported(family, loss)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoints/NAME and models/NAME for each pair; one loss of each family is exported in half precision too."""
    folder = tmp_path_factory.mktemp("gans")
    for family, loss in product(TINY_GANS, ADVERSARIAL_LOSSES):
        config = tiny_gan(family, loss=loss, penalty="wgan-gp" if loss == "wasserstein" else "r1+r2")
        torch.manual_seed(0)
        trainer, rng = FAMILIES[family].trainer(config, 100), torch.Generator().manual_seed(0)
        height, width, channels = config.network.image_shape
        for step in range(4):
            images = torch.rand(8, channels, height, width, generator=rng) * 2 - 1
            trainer.step(step, images, torch.arange(8) % 3, rng)
        if not is_exported(family, loss):
            continue
        name = f"{family}-{loss}"
        checkpoint = folder / "checkpoints" / name
        save_model(checkpoint, tiny_info(family, network=config.network, metrics={}), trainer.generator_ema)
        options = ExportOptions(
            name=name,
            repository=folder / "models",
            max_batch_size=2,
            precision="auto" if loss == "relativistic" else "fp32",
            num_golden=2,
            num_parity_seeds=4,
            num_half_seeds=16,
        )
        export_model(load_checkpoint(checkpoint), options)
    return folder


def test_every_family_with_every_loss_is_served_as_it_was_trained(folder: Path) -> None:
    seeds, labels = [0, 5, 2**63], 2
    with running(folder / "models", PAIRS) as triton, client(triton) as caller:
        for name in PAIRS:
            certificate = Certificate.read(folder / "models" / name / "1")
            images = np.concatenate(
                [infer(caller, name, sample_inputs([seed], 1.0, labels))["image"] for seed in seeds]
            )
            assert images.shape == (3, certificate.height, certificate.width, certificate.channels)
            assert images[0].tobytes() != images[1].tobytes(), name
            # The averaged weights of the training give the same images, but for rounding.
            model = load_model(folder / "checkpoints" / name)
            z = torch.from_numpy(latents(seeds, certificate.latent_shape))
            with torch.no_grad():
                expected = model.generator(z, torch.full((3,), labels)).clamp(-1, 1)
            levels = ((expected + 1) / 2 * 255).permute(0, 2, 3, 1).numpy()
            assert np.abs(images - levels).max() <= 1.0, name
