"""A model whose loss looks at features is never judged by them: the mark goes with the weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from export.adapters.checkpoint import load_checkpoint
from tests.support.cli import run
from tests.support.training import tiny_config
from training.efficientnet import NAME
from training.evaluation import served
from training.evaluation.cli import evaluate
from training.loop import train
from training.run.checkpoint import load_model
from training.run.folder import create


@pytest.fixture(scope="module")
def perceptual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a VAE with a perceptual term, which was stopped once and resumed."""
    folder = tmp_path_factory.mktemp("perceptual") / "run"
    config = tiny_config("vae", perceptual_weight=1.0, total_kimg=0.064)
    create(folder, config, overwrite=False)
    assert not train(config, folder, should_stop=iter([False, False, True]).__next__).finished
    assert train(config, folder).finished
    return folder


def test_checkpoint_card_and_certificate_name_the_features(perceptual: Path) -> None:
    info = load_model(perceptual / "checkpoint").info
    assert info.trained_with_features == (NAME,)
    assert f"| features in the loss | {NAME} |" in (perceptual / "checkpoint" / "card.md").read_text()
    assert load_checkpoint(perceptual / "checkpoint").provenance["trained_with_features"] == [NAME]
    assert "frechet_ratio" in info.metrics  # by the digit classifier, which the loss never saw


def test_evaluate_refuses_those_features_and_takes_others(perceptual: Path, tmp_path: Path) -> None:
    arguments = [str(perceptual), "--num-samples", "100", "--out", str(tmp_path)]
    refused = run(evaluate, [*arguments, "--features", "efficientnet-lite0"])
    assert refused.exit_code == 2
    assert f"trained with features of {NAME}, which must not judge it" in refused.stderr
    judged = run(evaluate, arguments)
    assert (judged.exit_code, judged.stderr) == (0, "")
    assert f"trained with features of {NAME}: judged by digits" in judged.stdout


def test_mark_stays_on_a_run_that_starts_from_such_a_model(perceptual: Path, tmp_path: Path) -> None:
    config = tiny_config("vae", start_from=str(perceptual / "checkpoint"), total_kimg=0.016)
    assert config.trained_with_features == ()
    create(tmp_path, config, overwrite=False)
    train(config, tmp_path)
    assert load_model(tmp_path / "checkpoint").info.trained_with_features == (NAME,)


def test_without_the_term_nothing_is_marked(tmp_path: Path) -> None:
    config = tiny_config("vae", total_kimg=0.016)
    create(tmp_path, config, overwrite=False)
    train(config, tmp_path)
    assert load_model(tmp_path / "checkpoint").info.trained_with_features == ()


def test_mark_of_a_served_model_comes_from_its_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, certificate = SimpleNamespace(max_count=8), SimpleNamespace(source={"trained_with_features": [NAME]})
    info = SimpleNamespace(name="m", family="vae", digest="d", height=8, width=8, channels=1, latent_shape=(4,))
    info.labels, info.limits, info.can_encode, info.certificate = (), limits, True, lambda: certificate
    monkeypatch.setattr(served, "Sampler", lambda *_, **__: SimpleNamespace(model=lambda *_, **__: info))
    assert served.ServedModel("127.0.0.1:1", "m").facts.judged_by_none_of == (NAME,)
