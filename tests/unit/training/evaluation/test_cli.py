"""`./ganvas evaluate`: the report and its JSON, and what it refuses."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.cli import run
from tests.support.training import TINY, TINY_UNCONDITIONAL, save_tiny
from training.evaluation.cli import evaluate


@pytest.fixture(scope="module")
def vae_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an untrained conditional VAE that lies in a run folder with curves."""
    folder = tmp_path_factory.mktemp("run")
    save_tiny(folder / "checkpoint", "vae", TINY)
    (folder / "config.json").write_text("{}")
    lines = [{"step": i, "kimg": 0.1 * i, "losses": {"D": 1.0, "G": 2.0, "D_accuracy": 0.75}} for i in range(1, 4)]
    (folder / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run(evaluate, [str(folder), "--num-samples", "100"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Fréchet distance" in result.stdout
    assert "problem: far from the data" in result.stdout
    return folder / "evaluation"


def test_report_is_one_file_that_fetches_nothing(vae_page: Path) -> None:
    page = (vae_page / "report.html").read_text()
    HTMLParser().feed(page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert "<script" not in page


def test_report_says_what_the_json_says(vae_page: Path) -> None:
    page, found = (vae_page / "report.html").read_text(), json.loads((vae_page / "evaluation.json").read_text())
    assert f"{found['samples']['ratio']:.2f} times the floor" in page
    assert f"{found['reconstruction']['psnr_db']:.2f} dB" in page
    assert all(finding["title"] in page for finding in found["findings"])
    assert found["features"] == "digit classifier"
    assert found["untrained"]["ratio"] > 10


def test_report_draws_the_curves_of_the_run(vae_page: Path) -> None:
    found = json.loads((vae_page / "evaluation.json").read_text())
    assert found["discriminator_accuracy"] == 0.75
    assert "discriminator accuracy" in (vae_page / "report.html").read_text()


def test_ids_of_the_charts_are_not_used_twice(vae_page: Path) -> None:
    ids = re.findall(r'\bid="([^"]+)"', (vae_page / "report.html").read_text())
    assert ids
    assert len(ids) == len(set(ids))


def test_unconditional_model_is_evaluated_without_class_agreement(tmp_path: Path) -> None:
    save_tiny(tmp_path / "checkpoint", "dcgan", TINY_UNCONDITIONAL)
    result = run(evaluate, [str(tmp_path / "checkpoint"), "--num-samples", "100", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["classes"]["agreement"] is None
    assert found["synthetic_accuracy"] is None
    assert sum(found["classes"]["samples"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name either a CHECKPOINT or, for a served model, --model NAME --url HOST:PORT."),
        (["out", "--model", "digits-gan"], "name either a CHECKPOINT or"),
        (["--model", "digits-gan"], "--data is missing"),
        (["nowhere"], "nowhere does not exist"),
        (["out", "--num-samples", "5"], "--num-samples must be within [100, 5000]; got 5."),
        (["out", "--features", "fid"], "--features must be"),
        (["--model", "x", "--data", "digits", "--url", "127.0.0.1:1"], "--url 127.0.0.1:1:"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.evaluation.served.TIMEOUT_S", 0.2)
    result = run(evaluate, arguments)
    assert result.exit_code != 0
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
