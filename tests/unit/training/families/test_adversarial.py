"""The adversarial learner, step by step against the same steps in plain PyTorch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from tests.support.training import TINY, TINY_UNCONDITIONAL, tiny_config
from training.families import FAMILIES
from training.families.adversarial import AdversarialConfig, AdversarialTrainer
from training.stabilizers.augment import augment

NUM_STEPS = 6
LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "relativistic": (lambda r, f: softplus(-(r - f)).mean(), lambda r, f: softplus(-(f - r)).mean()),
    "minimax": (lambda r, f: softplus(-r).mean() + softplus(f).mean(), lambda r, f: (1 - f.sigmoid()).log().mean()),
    "non-saturating": (lambda r, f: softplus(-r).mean() + softplus(f).mean(), lambda r, f: softplus(-f).mean()),
    "least-squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
        lambda r, f: ((f - 1) ** 2).mean() / 2,
    ),
    "hinge": (lambda r, f: relu(1 - r).mean() + relu(1 + f).mean(), lambda r, f: -f.mean()),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
}


def trainer_of(config: Any, num_images: int = 50_000) -> AdversarialTrainer:
    torch.manual_seed(1)
    trainer = FAMILIES[config.family].trainer(config, num_images)
    assert isinstance(trainer, AdversarialTrainer)
    return trainer


def batches(config: AdversarialConfig) -> list[tuple[Tensor, Tensor | None]]:
    rng = torch.Generator().manual_seed(3)
    found = []
    for _ in range(NUM_STEPS):
        images = torch.rand(config.batch_size, 1, 8, 8, generator=rng) * 2 - 1
        labels = torch.randint(10, (config.batch_size,), generator=rng)
        found.append((images, labels if config.network.num_classes else None))
    return found


def train_by_hand(config: AdversarialConfig, start: AdversarialTrainer) -> dict[str, nn.Module]:
    """NUM_STEPS steps as the papers have them: what the trainer must do, in as few lines as possible."""
    g, d, average = (copy.deepcopy(module) for module in (start.generator, start.discriminator, start.generator_ema))
    adam = {net: torch.optim.Adam(net.parameters(), fused=True) for net in (g, d)}
    rng, (d_loss, g_loss) = torch.Generator().manual_seed(5), LOSSES[config.loss]

    def cosine(a: float, b: float | None, step: int) -> float:
        share = step * config.batch_size / 1000 / (config.schedule_kimg or config.total_kimg)
        return a if b is None else b + (a - b) * (1 + math.cos(math.pi * min(share, 1.0))) / 2

    def score(x: Tensor) -> Tensor:
        return d(augment(x, p, rng), labels)  # type: ignore[no-any-return]

    def update(net: nn.Module, loss: Tensor) -> None:
        adam[net].zero_grad()
        torch.autograd.backward(loss)
        if config.clip_norm:
            nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
        adam[net].step()

    def slope(x: Tensor) -> Tensor:
        return torch.autograd.grad(score(x).sum(), x, create_graph=True)[0].square().sum((1, 2, 3))

    for step, (real, labels) in enumerate(batches(config)):
        rate = cosine(config.learning_rate, config.final_learning_rate, step)
        beta2, k = cosine(config.beta2, config.final_beta2, step), config.penalty_interval
        lazy = k / (k + 1) if config.penalty != "none" and k > 1 else 1.0
        d_rate = rate * (config.discriminator_learning_rate or config.learning_rate) / config.learning_rate
        adam[g].param_groups[0].update(lr=rate, betas=(config.beta1, beta2))
        adam[d].param_groups[0].update(lr=d_rate * lazy, betas=(config.beta1**lazy, beta2**lazy))
        gamma = cosine(config.gamma, config.final_gamma, step)
        p = cosine(config.augment_probability, config.final_augment_probability, step)

        fake = g(torch.randn(len(real), *config.network.latent_shape, generator=rng), labels)
        update(d, d_loss(score(real), score(fake.detach())))
        if config.penalty != "none" and step % k == 0:
            x, y = real.clone().requires_grad_(), fake.detach().clone().requires_grad_()
            if config.penalty == "wgan-gp":
                share = torch.rand(len(x), 1, 1, 1, generator=rng)
                between = (share * x + (1 - share) * y).detach().requires_grad_()
                penalty = gamma * (slope(between).sqrt() - 1).square().mean()
            else:
                r1, r2 = slope(x).mean(), slope(y).mean() if config.penalty == "r1+r2" else 0.0
                penalty = gamma / 2 * (r1 + r2)
            update(d, k * penalty)
        real_scores = score(real) if config.loss == "relativistic" else torch.empty(0)
        update(g, g_loss(real_scores, score(fake)))

        half_life = cosine(config.ema_halflife_kimg, config.final_ema_halflife_kimg, step) * 1000
        half_life = min(half_life, 0.05 * (step + 1) * config.batch_size)
        for mean, now in zip(average.state_dict().values(), g.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - 0.5 ** (config.batch_size / half_life))
            else:
                mean.copy_(now)
    return {"generator": g, "discriminator": d, "generator_ema": average}


CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "unconditional": {"network": TINY_UNCONDITIONAL},
    **{f"{loss}": {"loss": loss} for loss in LOSSES},
    "r1": {"penalty": "r1", "gamma": 3.0, "penalty_interval": 2},
    "wgan-gp": {"penalty": "wgan-gp", "gamma": 10.0},
    "no penalty": {"penalty": "none"},
    "rates": {"learning_rate": 2e-3, "discriminator_learning_rate": 5e-3, "beta1": 0.5, "beta2": 0.9},
    "schedules": {
        "final_learning_rate": 1e-4,
        "final_beta2": 0.9,
        "final_gamma": 0.1,
        "final_ema_halflife_kimg": 0.001,
        "schedule_kimg": 0.06,
    },
    "clipping": {"clip_norm": 0.01},
    "augmentation": {"augment": "fixed", "augment_probability": 0.3, "final_augment_probability": 0.8},
}


@pytest.mark.parametrize("case", CASES)
def test_step_is_that_of_the_papers(case: str) -> None:
    config: Any = tiny_config("dcgan", **({"ema_halflife_kimg": 0.003, "gamma": 0.7} | CASES[case]))
    trainer = trainer_of(config)
    expected = train_by_hand(config, trainer)
    rng = torch.Generator().manual_seed(5)
    for step, (images, labels) in enumerate(batches(config)):
        trainer.step(step, images, labels, rng)
    for name, module in trainer.modules.items():
        assert_same(module, expected[name], name)


def assert_same(found: nn.Module, expected: nn.Module, name: str) -> None:
    for key, tensor in expected.state_dict().items():
        message = f"{name} {key} is not as it should be"
        torch.testing.assert_close(found.state_dict()[key], tensor, rtol=1e-4, atol=1e-6, msg=message)


def test_penalty_of_every_step_is_a_part_of_the_loss() -> None:
    config: Any = tiny_config("dcgan", penalty_interval=1, gamma=2.0)
    trainer = trainer_of(config)
    d = copy.deepcopy(trainer.discriminator)
    adam = torch.optim.Adam(d.parameters(), lr=1e-3, betas=(0.0, 0.99), fused=True)
    images, labels = batches(config)[0]
    z = torch.randn(len(images), 4, generator=torch.Generator().manual_seed(5))
    x, y = images.clone().requires_grad_(), copy.deepcopy(trainer.generator)(z, labels).detach().requires_grad_()
    real, fake = d(x, labels), d(y, labels)
    slopes = torch.autograd.grad((real + fake).sum(), [x, y], create_graph=True)
    penalty = torch.stack([slope.square().sum((1, 2, 3)).mean() for slope in slopes]).sum()
    torch.autograd.backward(softplus(fake - real).mean() + penalty)  # gamma / 2 is 1
    adam.step()
    losses = trainer.step(0, images, labels, torch.Generator().manual_seed(5))
    assert losses["R1"] + losses["R2"] == pytest.approx(penalty.item(), rel=1e-5)
    assert_same(trainer.discriminator, d, "discriminator")


def test_losses_of_a_step_hold_every_term() -> None:
    config: Any = tiny_config("dcgan", augment="adaptive")
    images, labels = batches(config)[0]
    trainer = trainer_of(config)
    assert set(trainer.step(0, images, labels, torch.Generator())) == {"D", "G", "D_accuracy", "R1", "R2", "augment"}
    assert set(trainer.step(1, images, labels, torch.Generator())) == {"D", "G", "D_accuracy", "augment"}


def test_scale_learning_rate_lowers_both_rates_for_good() -> None:
    config: Any = tiny_config("dcgan", final_learning_rate=1e-4)
    trainer, scaled = trainer_of(config), trainer_of(config)
    scaled.scale_learning_rate(0.5)
    scaled.scale_learning_rate(0.5)
    images, labels = batches(config)[0]
    for step in (0, 7):
        for each in (trainer, scaled):
            each.step(step, images, labels, torch.Generator())
        for name, optimizer in trainer.optimizers.items():
            rate = scaled.optimizers[name].param_groups[0]["lr"]
            assert rate == pytest.approx(optimizer.param_groups[0]["lr"] / 4)


def test_augmentation_is_adaptive_below_30_000_images_and_off_above() -> None:
    config: Any = tiny_config("dcgan")
    assert trainer_of(config, 29_999).adaptive is not None
    assert trainer_of(config, 30_000).adaptive is None
    assert trainer_of(tiny_config("dcgan", augment="none"), 100).adaptive is None


def test_state_holds_what_augmentation_has_learned() -> None:
    config: Any = tiny_config("dcgan", augment="adaptive", augment_kimg=0.1)
    trainer, other = trainer_of(config), trainer_of(config)
    trainer.load_state({"augment_probability": 0.5, "real_sign": 0.9})
    images, labels = batches(config)[0]
    losses = trainer.step(0, images, labels, torch.Generator())
    assert losses["augment"] == 0.5
    assert trainer.state["augment_probability"] == pytest.approx(0.5 + 0.16)
    other.load_state(trainer.state)
    assert other.state == trainer.state


def columns(num_images: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of one bright column, at the place of their label, of varying brightness."""
    labels = torch.randint(4, (num_images,), generator=rng)
    images = torch.full((num_images, 1, 8, 8), -0.8)
    bright = 0.5 + 0.4 * torch.rand(num_images, 1, 1, 1, generator=rng)
    at = (torch.arange(8) // 2)[None, None, None, :] == labels[:, None, None, None]
    return torch.where(at, bright.expand_as(images), images), labels


@pytest.mark.parametrize("loss", ["relativistic", "non-saturating", "hinge"])
def test_gan_learns_a_small_problem(loss: str) -> None:
    network = {"network": TINY.__class__(**{**TINY.__dict__, "num_classes": 4, "base_channels": 8})}
    config: Any = tiny_config(
        "dcgan",
        total_kimg=9.6,
        batch_size=32,
        loss=loss,
        augment="none",
        discriminator_channels=8,
        gamma=0.1,
        **network,
    )
    trainer, rng = trainer_of(config), torch.Generator().manual_seed(0)
    for step in range(config.num_steps):
        trainer.step(step, *columns(32, rng), rng)
    labels = torch.arange(4).repeat(25)
    with torch.no_grad():
        images = trainer.generator_ema(torch.randn(100, 4, generator=rng), labels)
    profile = images.mean(dim=(1, 2)).view(100, 4, 2).mean(2)  # [N, place]
    assert (profile.argmax(1) == labels).all()
    assert profile.gather(1, labels[:, None]).mean().item() == pytest.approx(0.7, abs=0.15)
    assert profile.scatter(1, labels[:, None], -0.8).mean().item() == pytest.approx(-0.8, abs=0.1)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # of dynamo
def test_compiled_networks_take_the_same_steps() -> None:
    """A compiled network cannot be differentiated twice: penalties go around it."""
    config: Any = tiny_config("dcgan", augment="none")
    plain, compiled = trainer_of(config), trainer_of(config)
    for network in (compiled.generator, compiled.discriminator):
        network.compile(backend="aot_eager")
    for trainer in (plain, compiled):
        rng = torch.Generator().manual_seed(5)
        for step, (images, labels) in enumerate(batches(config)[:2]):
            trainer.step(step, images, labels, rng)
    for name, module in plain.modules.items():
        assert_same(compiled.modules[name], module, name)
