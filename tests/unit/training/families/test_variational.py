"""The learner of the VAEs, step by step against the same steps in plain PyTorch; and their networks."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.training import TINY, TINY_UNCONDITIONAL, tiny_config, tiny_network
from training.families import FAMILIES
from training.families.vae_gan import adaptive_weight
from training.families.variational import VariationalConfig, VariationalTrainer
from training.objectives.adversarial import ADVERSARIAL_LOSSES
from training.objectives.perceptual import PerceptualDistance

NUM_STEPS = 5


def trainer_of(config: VariationalConfig) -> VariationalTrainer:
    torch.manual_seed(1)
    trainer = FAMILIES[config.family].trainer(config, 1000)
    assert isinstance(trainer, VariationalTrainer)
    return trainer


def batches(config: VariationalConfig) -> list[tuple[Tensor, Tensor | None]]:
    rng = torch.Generator().manual_seed(3)
    found = []
    for _ in range(NUM_STEPS):
        images = torch.rand(config.batch_size, 1, 8, 8, generator=rng)
        labels = torch.randint(10, (config.batch_size,), generator=rng)
        found.append((images, labels if config.network.num_classes else None))
    return found


def train_by_hand(config: Any, start: VariationalTrainer) -> dict[str, nn.Module]:
    """NUM_STEPS steps as the papers have them: what the trainer must do, in as few lines as possible."""
    nets = {name: copy.deepcopy(module) for name, module in start.modules.items()}
    encoder, decoder = nets["encoder"].train(), nets["generator"].train()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    adam = torch.optim.Adam(parameters, betas=(config.beta1, config.beta2), fused=True)
    rng, distance = torch.Generator().manual_seed(5), PerceptualDistance()
    for step, (images, labels) in enumerate(batches(config)):
        share = step / config.num_steps
        first, last = config.learning_rate, config.final_learning_rate
        adam.param_groups[0]["lr"] = last + (first - last) * (1 + math.cos(math.pi * share)) / 2
        beta = config.beta
        if config.warmup_kimg:
            beta *= min(1.0, step * config.batch_size / 1000 / config.warmup_kimg)

        mean, logvar = encoder(images)
        z = mean + torch.randn(mean.shape, generator=rng) * (logvar / 2).exp()
        logits = decoder.logits(z, labels)  # type: ignore[operator]
        if config.network.likelihood == "bernoulli":
            error = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
        else:
            log_sigma = -6 + torch.log1p((decoder.log_scale + 6).exp())  # type: ignore[operator,union-attr]
            distance = (logits.sigmoid() - images) / log_sigma.exp()
            error = (distance**2 / 2 + log_sigma + math.log(2 * math.pi) / 2).sum() / len(images)
        if config.perceptual_weight:
            error = error + config.perceptual_weight * images[0].numel() * distance(logits.sigmoid(), images).mean()
        nats = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(0)
        adam.zero_grad()
        torch.autograd.backward(error + beta * nats.clamp(min=config.free_bits * math.log(2)).sum())
        if config.clip_norm:
            nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        adam.step()

        half_life = min(config.ema_halflife_kimg * 1000, 0.05 * (step + 1) * config.batch_size)
        for name in ("encoder", "generator"):
            now = nets[name].state_dict()
            for key, average in nets[f"{name}_ema"].state_dict().items():
                if average.is_floating_point():
                    average.lerp_(now[key], 1 - 0.5 ** (config.batch_size / half_life))
                else:
                    average.copy_(now[key])
    return nets


CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "dcgan body": {"network": dataclasses.replace(tiny_network("vae"), body="dcgan")},
    "unconditional": {"network": tiny_network("vae", TINY_UNCONDITIONAL)},
    "gaussian": {"network": dataclasses.replace(tiny_network("vae"), likelihood="gaussian")},
    "beta": {"beta": 7.0},
    "warm-up": {"warmup_kimg": 0.05},
    "free bits": {"free_bits": 0.02, "beta": 5.0},
    "rates": {"learning_rate": 5e-3, "final_learning_rate": 1e-3, "beta1": 0.5, "beta2": 0.9},
    "clipping": {"clip_norm": 0.5},
    "average": {"ema_halflife_kimg": 0.001},
    "perceptual": {"perceptual_weight": 0.5},
}


@pytest.mark.parametrize(
    ("family", "case"),
    [("vae", case) for case in CASES] + [("mlp-vae", case) for case in CASES if "network" not in CASES[case]],
)
def test_step_is_that_of_the_papers(family: str, case: str) -> None:
    config: Any = tiny_config(family, **({"beta": 1.5, "total_kimg": 0.1} | CASES[case]))
    trainer = trainer_of(config)
    expected = train_by_hand(config, trainer)
    rng = torch.Generator().manual_seed(5)
    for step, (images, labels) in enumerate(batches(config)):
        trainer.step(step, images, labels, rng)
    for name, module in trainer.modules.items():
        wanted = expected[name].state_dict()
        for key, tensor in module.state_dict().items():
            assert torch.allclose(tensor, wanted[key], rtol=2e-4, atol=2e-6), f"{name} {key}"


def test_what_is_sampled_and_saved_is_the_average() -> None:
    config: Any = tiny_config("vae", ema_halflife_kimg=5.0)
    trainer: Any = trainer_of(config)
    rng = torch.Generator().manual_seed(5)
    for step, (images, labels) in enumerate(batches(config)):
        trainer.step(step, images, labels, rng)
    assert trainer.generator_ema is trainer.modules["generator_ema"]
    assert trainer.encoder_ema is trainer.modules["encoder_ema"]
    live, average = trainer.generator.to_logits.weight, trainer.generator_ema.to_logits.weight
    assert not torch.allclose(live, average, rtol=0, atol=1e-5)


def test_losses_are_the_reconstruction_and_the_whole_kl() -> None:
    config: Any = tiny_config("vae", beta=3.0, free_bits=9.0)
    trainer = trainer_of(config)
    (images, labels), before = batches(config)[0], copy.deepcopy(trainer.encoder)
    losses = trainer.step(0, images, labels, torch.Generator().manual_seed(5))
    mean, logvar = before.train()(images)
    assert losses["KL"] == pytest.approx(0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean().item(), rel=1e-4)
    assert set(losses) == {"reconstruction", "KL"}


@pytest.mark.parametrize("family", ["vae", "mlp-vae", "vae-gan"])
def test_perceptual_term_trains_encoder_and_decoder_in_every_family(family: str) -> None:
    """The same step with the term and without: it is reported, and moves the weights elsewhere."""
    images, labels = batches(tiny_config(family))[0]  # type: ignore[arg-type]
    found = []
    for weight in (0.0, 2.0):
        trainer = trainer_of(tiny_config(family, perceptual_weight=weight))  # type: ignore[arg-type]
        losses = trainer.step(0, images, labels, torch.Generator().manual_seed(5))
        assert ("perceptual" in losses) == (weight > 0)
        found.append((trainer.generator.last_layer.clone(), next(trainer.encoder.parameters()).clone(), losses))
    (decoder, encoder, plain), (other_decoder, other_encoder, looked_at) = found
    assert looked_at["reconstruction"] == plain["reconstruction"]
    assert looked_at["perceptual"] > 0
    assert not torch.equal(decoder, other_decoder)
    assert not torch.equal(encoder, other_encoder)


def test_scale_learning_rate_holds_in_the_next_step() -> None:
    config: Any = tiny_config("vae")
    trainer = trainer_of(config)
    trainer.scale_learning_rate(0.5)
    images, labels = batches(config)[0]
    trainer.step(0, images, labels, torch.Generator())
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(config.learning_rate / 2)


@pytest.mark.parametrize("image_size", [8, 12, 28, 32, 64])
@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("channels", [1, 3])
def test_vae_makes_and_encodes_images_of_its_size(image_size: int, num_classes: int, channels: int) -> None:
    values = dataclasses.asdict(TINY) | {"image_size": image_size, "num_classes": num_classes}
    values |= {"image_channels": channels, "likelihood": "bernoulli" if channels == 1 else "logistic"}
    decoder, encoder = FAMILIES["vae"].build(FAMILIES["vae"].parse_network(values))
    assert encoder is not None
    images = decoder(30 * torch.randn(3, 4), torch.arange(3)) if num_classes else decoder(30 * torch.randn(3, 4))
    assert images.shape == (3, channels, image_size, image_size)
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    mean, logvar = encoder(1000 * images)
    assert mean.shape == logvar.shape == (3, 4)
    assert logvar.abs().max() <= 10.0


@pytest.mark.parametrize("family", ["vae", "mlp-vae"])
def test_decoder_is_the_sigmoid_of_its_logits_and_depends_on_latent_and_label(family: str) -> None:
    decoder: Any = FAMILIES[family].build(tiny_network(family))[0].eval()
    z, label = torch.randn(4, 4), torch.arange(4)
    images = decoder(z, label)
    assert torch.equal(images, torch.sigmoid(decoder.logits(z, label)))
    assert not torch.allclose(images, decoder(z, label + 1))
    assert not torch.allclose(images, decoder(z + 1, label))
    with pytest.raises(ValueError, match="label is missing"):
        decoder(z)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_channels": 3}, "likelihood bernoulli is for grey images; these have 3 channels"),
        ({"image_size": 30}, "image_size must be 4, 5, 6 or 7 times a power of two"),
        ({"latent_dim": 200, "prior_components": 3}, "prior_components must be 0 with a latent_dim above 128"),
        ({"likelihood": "poisson"}, "likelihood"),
    ],
)
def test_vae_network_rejects_what_it_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FAMILIES["vae"].parse_network(dataclasses.asdict(TINY) | changes)


class TestVaeGan:
    """A step of VAE and discriminator, and the weight between their losses."""

    def test_step_is_that_of_the_papers(self) -> None:
        config: Any = tiny_config("vae-gan", beta=1.5, gamma=0.7, penalty_interval=2, augment="none", clip_norm=0.0)
        torch.manual_seed(1)
        trainer: Any = FAMILIES["vae-gan"].trainer(config, 1000)
        expected = train_vae_gan_by_hand(config, trainer)
        rng = torch.Generator().manual_seed(5)
        for step, (images, labels) in enumerate(batches(config)):
            losses = trainer.step(step, images, labels, rng)
        assert {"reconstruction", "KL", "D", "G", "G_weight"} <= set(losses)
        for name, module in expected.items():
            found = trainer.modules[name].state_dict()
            for key, tensor in module.state_dict().items():
                assert torch.allclose(found[key], tensor, rtol=5e-4, atol=5e-6), f"{name} {key}"

    def test_adversarial_gradient_is_as_long_as_asked_at_the_last_layer(self) -> None:
        weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        error, adversarial = (2 * weight).sum() * 10, (weight * torch.tensor([0.6, 0.8])).sum()
        found = adaptive_weight(error, adversarial, weight)
        assert found.item() == pytest.approx(20 * math.sqrt(2), rel=1e-5)
        assert not found.requires_grad

    @pytest.mark.parametrize("loss", ADVERSARIAL_LOSSES)
    def test_every_adversarial_loss_trains_every_network(self, loss: str) -> None:
        penalty = "wgan-gp" if loss == "wasserstein" else "r1+r2"
        trainer: Any = FAMILIES["vae-gan"].trainer(tiny_config("vae-gan", loss=loss, penalty=penalty), 1000)
        before = {name: copy.deepcopy(module) for name, module in trainer.modules.items()}
        rng = torch.Generator().manual_seed(5)
        for step, (images, labels) in enumerate(batches(trainer.config)[:2]):
            losses = trainer.step(step, images, labels, rng)
            assert all(math.isfinite(value) for value in losses.values()), losses
        for name, module in trainer.modules.items():
            pairs = zip(before[name].parameters(), module.parameters(), strict=True)
            assert any(not torch.equal(old, new) for old, new in pairs), name

    def test_before_adversarial_from_kimg_it_is_a_plain_vae(self) -> None:
        config: Any = tiny_config("vae-gan", adversarial_from_kimg=1.0)
        torch.manual_seed(1)
        trainer: Any = FAMILIES["vae-gan"].trainer(config, 1000)
        before = copy.deepcopy(trainer.modules["discriminator"].state_dict())
        images, labels = batches(config)[0]
        assert set(trainer.step(0, images, labels, torch.Generator().manual_seed(5))) == {"reconstruction", "KL"}
        assert all(
            torch.equal(a, b)
            for a, b in zip(before.values(), trainer.modules["discriminator"].state_dict().values(), strict=True)
        )


def train_vae_gan_by_hand(config: Any, start: Any) -> dict[str, nn.Module]:
    """As train_by_hand, with a discriminator: relativistic pairing, R1 and R2 every penalty_interval steps."""
    nets: dict[str, Any] = {name: copy.deepcopy(module) for name, module in start.modules.items()}
    encoder, decoder, d = nets["encoder"], nets["generator"], nets["discriminator"]
    adam = torch.optim.Adam(
        [*encoder.parameters(), *decoder.parameters()], betas=(config.beta1, config.beta2), fused=True
    )
    d_adam = torch.optim.Adam(d.parameters(), fused=True)
    rng, lazy = torch.Generator().manual_seed(5), config.penalty_interval / (config.penalty_interval + 1)
    for step, (images, labels) in enumerate(batches(config)):
        rate = config.learning_rate * (1 + math.cos(math.pi * step / config.num_steps)) / 2
        adam.param_groups[0]["lr"] = rate
        d_rate = config.learning_rate * (1 + math.cos(math.pi * config.kimg(step) / config.total_kimg)) / 2
        d_adam.param_groups[0].update(lr=d_rate * lazy, betas=(config.beta1**lazy, config.beta2**lazy))
        mean, logvar = encoder(images)
        z = mean + torch.randn(mean.shape, generator=rng) * (logvar / 2).exp()
        logits = decoder.logits(z, labels)
        error = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(0).sum()

        noise, mixed = torch.randn(mean.shape, generator=rng), z.detach().clone()
        mixed[1::2] = noise[1::2]
        real, fake = 2 * images - 1, 2 * decoder.logits(mixed, labels).sigmoid() - 1
        d_adam.zero_grad()
        torch.autograd.backward(functional.softplus(-(d(real, labels) - d(fake.detach(), labels))).mean())
        d_adam.step()
        if step % config.penalty_interval == 0:
            x, y = real.clone().requires_grad_(), fake.detach().clone().requires_grad_()
            slopes = [torch.autograd.grad(d(i, labels).sum(), i, create_graph=True)[0] for i in (x, y)]
            penalty = config.gamma / 2 * sum(slope.square().sum((1, 2, 3)).mean() for slope in slopes)
            d_adam.zero_grad()
            torch.autograd.backward(config.penalty_interval * penalty)
            d_adam.step()
        adversarial = functional.softplus(-(d(fake, labels) - d(real, labels))).mean()
        last = decoder.to_logits.weight
        lengths = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (error, adversarial)]
        weight = config.adversarial_weight * (lengths[0] / (lengths[1] + 1e-6)).detach()
        adam.zero_grad()
        torch.autograd.backward(error + config.beta * kl + weight * adversarial)
        adam.step()
    return {"encoder": encoder, "generator": decoder, "discriminator": d}
