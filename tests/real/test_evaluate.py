"""`./ganvas evaluate --model NAME --url`: what users get is what is judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.local_server import LocalServer
from ganvas_client import Sampler
from tests.support.cli import run
from training.evaluation.cli import evaluate
from training.evaluation.served import ServedModel

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def test_served_vae_is_evaluated_by_its_name(served: LocalServer, tmp_path: Path) -> None:
    arguments = ["--model", "tiny-vae", "--url", served.service, "--data", "digits"]
    result = run(evaluate, [*arguments, "--num-samples", "100", "--out", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads((tmp_path / "evaluation.json").read_text())
    with Sampler(served.service) as sampler:
        assert found["model"]["digest"] == sampler.model("tiny-vae").digest
    assert found["untrained"] is None
    assert found["reconstruction"]["psnr_db"] > 0
    assert (tmp_path / "report.html").stat().st_size > 50_000


def test_served_samples_are_those_of_the_client(served: LocalServer) -> None:
    labels = np.array([1, 2, 3], np.int64)
    images = ServedModel(served.service, "tiny-gan").sample(range(3), labels)
    with Sampler(served.service) as sampler:
        expected = sampler.sample("tiny-gan", range(3), labels=[1, 2, 3]).array
    assert torch.equal(images.permute(0, 2, 3, 1), torch.from_numpy(expected))


def test_unknown_model_is_said_in_one_line(served: LocalServer) -> None:
    result = run(evaluate, ["--model", "nothing", "--url", served.service, "--data", "digits"])
    assert result.exit_code == 2
    assert "nothing" in result.stderr
    assert result.stderr.count("\n") == 1
