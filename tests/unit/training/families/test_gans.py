"""What holds for every adversarial family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.gans import TINY_GANS, tiny_gan
from training.families import FAMILIES
from training.families.adversarial import AdversarialConfig, AdversarialTrainer
from training.families.variational import VariationalConfig
from training.objectives.adversarial import ADVERSARIAL_LOSSES


def trainer_of(family: str, **options: Any) -> AdversarialTrainer:
    torch.manual_seed(0)
    trainer = FAMILIES[family].trainer(tiny_gan(family, **options), 100)
    assert isinstance(trainer, AdversarialTrainer)
    return trainer


def batch(trainer: AdversarialTrainer) -> tuple[Tensor, Tensor | None]:
    network = trainer.config.network
    height, width, channels = network.image_shape
    labels = torch.arange(8) % network.num_classes if network.num_classes else None
    return torch.rand(8, channels, height, width) * 2 - 1, labels


def train(trainer: AdversarialTrainer, num_steps: int = 2) -> None:
    rng = torch.Generator().manual_seed(0)
    for step in range(num_steps):
        losses = trainer.step(step, *batch(trainer), rng)
        assert all(torch.isfinite(torch.tensor(value)) for value in losses.values()), losses


def test_every_adversarial_family_is_tested_here() -> None:
    types = {name: family.config_type for name, family in FAMILIES.items()}
    adversarial = {
        name
        for name, kind in types.items()
        if issubclass(kind, AdversarialConfig) and not issubclass(kind, VariationalConfig)
    }
    assert adversarial == set(TINY_GANS)


@pytest.mark.parametrize("loss", ADVERSARIAL_LOSSES)
@pytest.mark.parametrize("family", TINY_GANS)
def test_every_family_takes_steps_with_every_loss(family: str, loss: str) -> None:
    trainer = trainer_of(family, loss=loss, penalty="wgan-gp" if loss == "wasserstein" else "r1+r2")
    before = {name: weights_of(module) for name, module in trainer.modules.items()}
    train(trainer)
    for name, module in trainer.modules.items():
        after = weights_of(module)
        assert torch.isfinite(after).all()
        assert not torch.equal(after, before[name]), name


def weights_of(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("image_channels", [1, 3])
@pytest.mark.parametrize("family", TINY_GANS)
def test_every_parameter_is_trained(family: str, num_classes: int, image_channels: int) -> None:
    trainer = trainer_of(family, num_classes=num_classes, image_channels=image_channels, loss="non-saturating")
    before = [{name: p.detach().clone() for name, p in m.named_parameters()} for m in trainer.modules.values()]
    train(trainer, 4)
    for module, old in zip(trainer.modules.values(), before, strict=True):
        for name, parameter in module.named_parameters():
            assert not torch.equal(parameter, old[name]), name


@pytest.mark.parametrize("family", TINY_GANS)
def test_generator_depends_on_latent_and_label(family: str) -> None:
    trainer = trainer_of(family)
    train(trainer, 4)
    generator, z = trainer.generator_ema, torch.randn(2, 4)
    with torch.no_grad():
        base = generator(z, torch.tensor([1, 1]))
        other = generator(z, torch.tensor([2, 2]))
    assert not torch.allclose(base[0], base[1])
    assert not torch.allclose(base, other)


@pytest.mark.parametrize("family", TINY_GANS)
def test_score_of_an_image_depends_on_its_label_alone_among_the_batch(family: str) -> None:
    trainer = trainer_of(family)
    train(trainer, 4)
    images, labels = batch(trainer)
    assert labels is not None
    with torch.no_grad():
        scores = trainer.discriminator.eval()(images, labels)
        moved = trainer.discriminator(images, (labels + 1) % 3)
        alone = trainer.discriminator(images[:1], labels[:1])
    assert scores.shape == (8,)
    assert not torch.allclose(scores, moved)
    torch.testing.assert_close(alone, scores[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", TINY_GANS)
def test_generator_wants_a_label_exactly_where_it_is_conditional(family: str) -> None:
    with pytest.raises(ValueError, match="label is missing"):
        trainer_of(family).generator(torch.randn(2, 4))
    with pytest.raises(ValueError, match="label must be absent"):
        trainer_of(family, num_classes=0).generator(torch.randn(2, 4), torch.arange(2))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("family", TINY_GANS)
def test_half_precision_follows_float32(family: str, precision: str) -> None:
    exact, half = trainer_of(family, augment="none"), trainer_of(family, augment="none", precision=precision)
    images, labels = batch(exact)
    rngs = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    losses = exact.step(0, images, labels, rngs[0])
    for name, value in half.step(0, images, labels, rngs[1]).items():
        # All but the first loss come after a step of Adam, which turns a small difference into a whole step.
        if name != "D_accuracy":
            assert value == pytest.approx(losses[name], rel=0.02 if name == "D" else 0.2, abs=0.02), name
    assert all(parameter.dtype == torch.float32 for parameter in half.generator.parameters())


@pytest.mark.parametrize("family", sorted(set(TINY_GANS) - {"r3gan"}))
def test_spectral_norm_bounds_every_layer_of_the_discriminator(family: str) -> None:
    trainer = trainer_of(family, spectral_norm=True, loss="hinge", penalty="none")
    train(trainer, 20)
    layers = [m for m in trainer.discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert layers
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1.0, abs=0.1)
