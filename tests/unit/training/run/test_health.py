"""A run that goes wrong is noticed before anything of it is saved, taken back once, and ended the second time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.support.training import tiny_config, weights_of
from training.data import load_dataset
from training.families.adversarial import AdversarialTrainer
from training.loop import Outcome, train
from training.run.checkpoint import load_model
from training.run.checkpoints import Checkpoints
from training.run.curves import read_curves
from training.run.folder import create
from training.run.health import DivergedError, Divergence, check_diversity, diversity

CONFIG = tiny_config("dcgan", save_kimg=0.064)  # a checkpoint every 4 steps, 12 steps in all
step_of_trainer = AdversarialTrainer.step


def train_with(folder: Path, spoil: Callable[[AdversarialTrainer, int], dict[str, float]], said: list[str]) -> Outcome:
    """Train; after each step `spoil` may break the trainer, and gives losses to report besides."""

    def step(self: AdversarialTrainer, step: int, images: Tensor, labels: Tensor | None, rng: Any) -> dict[str, float]:
        return step_of_trainer(self, step, images, labels, rng) | spoil(self, step)

    if not folder.exists():
        create(folder, CONFIG, overwrite=False)
    with mock.patch.object(AdversarialTrainer, "step", step):
        return train(CONFIG, folder, say=said.append)


def once(at: int, spoil: Callable[[AdversarialTrainer], dict[str, float]]) -> Callable[[Any, int], dict[str, float]]:
    """Spoil the run when it first comes to this step."""
    times = iter([at])
    upcoming = [next(times)]

    def maybe(trainer: AdversarialTrainer, step: int) -> dict[str, float]:
        if upcoming and step == upcoming[0]:
            upcoming.clear()
            return spoil(trainer)
        return {}

    return maybe


def not_finite_loss(trainer: AdversarialTrainer) -> dict[str, float]:
    return {"R1": float("inf")}


@torch.no_grad()
def not_finite_weight(trainer: AdversarialTrainer) -> dict[str, float]:
    """What gradients that are not finite leave behind, while the loss of that step was finite."""
    next(trainer.generator_ema.parameters()).view(-1)[0] = float("nan")
    return {}


@torch.no_grad()
def not_finite_moment(trainer: AdversarialTrainer) -> dict[str, float]:
    parameter = next(trainer.discriminator.parameters())
    trainer.discriminator_optimizer.state[parameter]["exp_avg"].view(-1)[0] = float("inf")
    return {}


@torch.no_grad()
def collapse(trainer: AdversarialTrainer) -> dict[str, float]:
    """A generator that draws one image, whatever its latent is."""
    for parameter in trainer.generator_ema.parameters():
        parameter.zero_()
    return {}


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (not_finite_loss, "the R1 loss is inf at 0.1 kimg"),
        (not_finite_weight, "holds NaN or infinite numbers at 0.1 kimg"),
        (not_finite_moment, "optimizer.discriminator.0.exp_avg holds NaN or infinite numbers at 0.1 kimg"),
    ],
)
def test_run_is_taken_back_once_with_a_lower_rate(
    tmp_path: Path, spoil: Callable[[AdversarialTrainer], dict[str, float]], found: str
) -> None:
    said: list[str] = []
    rates: list[float] = []
    broken = once(7, spoil)  # the 8th step is saved, were it healthy

    def spoil_and_note(trainer: AdversarialTrainer, step: int) -> dict[str, float]:
        rates.append(trainer.generator_optimizer.param_groups[0]["lr"])
        return broken(trainer, step)

    outcome = train_with(tmp_path / "run", spoil_and_note, said)

    assert outcome.finished
    (message,) = said
    assert found in message
    assert "Back at 0.1 kimg, at 0.5 times the learning rate" in message
    assert rates == [1e-3] * 8 + [5e-4] * 8  # steps 0 to 7, then 4 to 11
    model = load_model(tmp_path / "run" / "checkpoint")
    assert model.info.num_rollbacks == 1
    assert "| taken back after divergence | 1 times |" in (tmp_path / "run" / "checkpoint" / "card.md").read_text()

    # The curves tell it, and hold each step once.
    lines = read_curves(tmp_path / "run" / "curves.jsonl")
    assert [line["reason"] for line in lines if "event" in line] == [message.split(": ", 1)[1].split(". Back")[0]]
    assert [line["step"] for line in lines if "losses" in line] == list(range(1, 13))


def test_finite_loss_with_gradients_that_are_not_destroys_no_resume_state(tmp_path: Path) -> None:
    """It was saved before the weights were looked at: --resume then failed for good."""
    said: list[str] = []
    with pytest.raises(DivergedError):
        train_with(tmp_path / "run", lambda trainer, step: not_finite_weight(trainer) if step > 5 else {}, said)
    assert [path.name for path in Checkpoints(tmp_path / "run", num_last=3).kept()] == ["000000.064kimg"]
    assert train(CONFIG, tmp_path / "run").finished


def test_run_that_diverges_again_ends_with_what_to_do(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(DivergedError) as caught:
        train_with(tmp_path / "run", lambda trainer, step: not_finite_loss(trainer) if step > 5 else {}, said)
    assert len(said) == 1
    again, advice = str(caught.value).split(" What was saved is intact. ")
    assert again == "the run diverged again: the R1 loss is inf at 0.1 kimg, at 0.5 times the learning rate."
    assert advice.startswith("Start another run with a lower rate (--set learning_rate=0.00025) or a stronger")


def test_run_that_diverges_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    said: list[str] = []
    assert train_with(tmp_path / "run", once(1, not_finite_loss), said).finished
    assert "Back at 0.0 kimg" in said[0]


def test_lower_rate_outlives_a_resume(tmp_path: Path) -> None:
    """A run that was taken back, stopped and resumed ends in the bits of one that was not stopped."""
    train_with(tmp_path / "whole", once(7, not_finite_loss), [])
    train_with(tmp_path / "parts", once(7, not_finite_loss), [])
    eighth = tmp_path / "parts" / "checkpoints" / "000000.128kimg"
    assert train(CONFIG, tmp_path / "parts", resume_at=eighth).finished
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")


def test_collapsed_samples_are_noticed(tmp_path: Path) -> None:
    said: list[str] = []
    # Twelve steps do not make diverse samples: any will do.
    with mock.patch.multiple("training.run.health", DIVERSE=0.0, COLLAPSED=1e-4):
        assert train_with(tmp_path / "run", once(7, collapse), said).finished
    assert said[0].startswith("diverged: samples collapsed: they differ 0.0% as much as real images do, after ")


def test_diversity_is_one_for_real_images_and_none_for_one_image() -> None:
    split = load_dataset("digits", image_shape=(8, 8, 1), num_classes=10)
    labels = split.train.labels
    assert labels is not None

    class Copies(torch.nn.Module):
        """Draws training images of the label, chosen by the latent."""

        def __init__(self, num_distinct: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.num_distinct = num_distinct

        def forward(self, z: Tensor, label: Tensor) -> Tensor:
            rows = [(labels == one).nonzero().squeeze(1) for one in label]
            picked = [int(row[(i % self.num_distinct) * 7]) for i, row in enumerate(rows)]
            return split.train.images[picked] / 127.5 - 1

    values = [
        diversity(Copies(n), split.train, latent_shape=(4,), num_classes=10, image_range=(-1.0, 1.0)) for n in (16, 1)
    ]
    assert values[0] == pytest.approx(1.0, abs=0.1)
    assert values[1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("now", "before"), [(0.0, None), (0.0, 0.1), (0.06, 0.9), (0.9, 0.9)])
def test_diversity_must_have_been_there_to_collapse(now: float, before: float | None) -> None:
    check_diversity(now, before)


@pytest.mark.parametrize("now", [0.0, 0.04, float("nan")])
def test_diversity_that_is_gone_is_a_collapse(now: float) -> None:
    with pytest.raises(Divergence, match="samples collapsed"):
        check_diversity(now, 0.5)
