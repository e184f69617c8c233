"""Whatever is wrong with an adapter: nothing is published, and the version before still serves."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from export.adapters.load import load_source
from export.errors import GateError, InputError
from export.options import CheckpointExportOptions
from export.pipeline import export_model
from export.proof.cases import Cases, make_cases, make_half_cases
from ganvas_core import noise
from ganvas_core.certificate import Certificate
from ganvas_core.interface import TRUNCATION_MAX, sample_inputs
from ganvas_core.names import FP32_FILE
from ganvas_core.session import CpuSession
from serving.repository.reader import read_repository
from tests.unit.export.adapters.test_file import BAD, HEAD, network

GOOD = "def adapter():\n    return Net(), Spec(**SPEC)"
LOADS = "def adapter(weights):\n    net = Net()\n    net.load_state_dict(weights)\n    return net, Spec(**SPEC)"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def export(folder: Path, repository: Path, body: str, weights: Path | None = None, **changes: Any) -> None:
    """What `./ganvas export --adapter my_model.py --name digits` does."""
    path = folder / "my_model.py"
    path.write_text(HEAD + body)
    values: dict[str, Any] = {
        "name": "digits",
        "adapter": str(path),
        "weights": weights,
        "repository": repository,
        "max_batch_size": 5,
        "num_golden": 2,
        "num_parity_seeds": 6,
        "num_half_seeds": 16,
    }
    options = CheckpointExportOptions(**(values | changes))
    export_model(load_source(options), options)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with version 1 of the good adapter."""
    folder = tmp_path_factory.mktemp("good")
    export(folder, folder / "models", GOOD)
    return folder / "models"


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "models"))


def check_serves(repository: Path) -> None:
    """Version 1 is the newest, its files are those of its certificate, and it makes its golden image."""
    entry = read_repository(repository, "cpu").newest("digits")
    certificate = Certificate.read(repository / "digits" / "1")
    assert entry.version == 1
    certificate.check_files(repository / "digits" / "1")
    golden = certificate.files[FP32_FILE].golden[0]
    (image,) = CpuSession(repository / "digits" / "1" / FP32_FILE).run(
        sample_inputs(np.array([golden.seed], np.uint64), golden.truncation, golden.label)
    )
    assert hashlib.sha256(image[0].tobytes()).hexdigest() == golden.sha256


@pytest.mark.parametrize("name", BAD)
def test_a_bad_adapter_publishes_nothing(tmp_path: Path, repository: Path, name: str) -> None:
    body, message = BAD[name]
    before = tree(repository)
    with pytest.raises(InputError, match=message):
        export(tmp_path, repository, body)
    assert tree(repository) == before
    check_serves(repository)


def test_a_network_that_cannot_be_exported_publishes_nothing(tmp_path: Path, repository: Path) -> None:
    before = tree(repository)
    body = network("return images if float(images.sum()) > -1e9 else -images")
    message = r"torch cannot export the network at .*\. Write forward with tensor operations alone"
    with pytest.raises(InputError, match=message) as caught:
        export(tmp_path, repository, body)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert tree(repository) == before
    check_serves(repository)


@pytest.mark.parametrize(
    ("cases", "row"),
    [
        (make_cases(num_golden=2, num_more=4, num_labels=0), 5),
        (make_half_cases(num_seeds=16, num_labels=0, truncation_max=TRUNCATION_MAX), 11),
    ],
)
def test_a_range_that_one_seed_of_the_proof_leaves_publishes_nothing(
    tmp_path: Path, repository: Path, cases: Cases, row: int
) -> None:
    """A seed that fp32 is proven with, and one that only fp16 is; neither is tried when the adapter is loaded."""
    before = tree(repository)
    latent = noise.truncated_latents(cases.seeds, cases.truncation, (6,))[row].tolist()
    body = network(f"return images + 3 * ((z - torch.tensor({latent})).abs().amax(1) < 1e-3)[:, None, None, None]")
    message = rf"image_range is \[-1, 1\], .* the first of 1 such images, of {len(cases)}: {cases.describe(row)}\."
    with pytest.raises(InputError, match=message):
        export(tmp_path, repository, body)
    assert tree(repository) == before
    check_serves(repository)


def test_a_graph_that_cannot_run_in_a_large_batch_publishes_nothing(tmp_path: Path, repository: Path) -> None:
    before = tree(repository)
    body = network("return images + torch.zeros(20, 1, 1, 1)[torch.arange(z.shape[0])]")
    message = r"ONNX Runtime cannot run the graph in a batch of 24: .* Make forward take any"
    with pytest.raises(GateError, match=message) as caught:
        export(tmp_path, repository, body, max_batch_size=24, name="other")
    assert "\n" not in str(caught.value)
    assert tree(repository) == before
    check_serves(repository)


def test_another_interface_than_the_version_before_publishes_nothing(tmp_path: Path, repository: Path) -> None:
    before = tree(repository)
    body = network("return images.transpose(2, 3)", spec="Spec(latent_shape=(6,), image=(5, 4, 3))")
    with pytest.raises(InputError, match="digits version 1 has height 4 and this one would have 5"):
        export(tmp_path, repository, body)
    assert tree(repository) == before
    check_serves(repository)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"layer.weight": (60, 6)}, r"Missing key.*layer\.bias"),
        ({"layer.weight": (60, 6), "layer.bias": (60,), "more": (1,)}, r"Unexpected key.*more"),
        ({"layer.weight": (60, 7), "layer.bias": (60,)}, r"size mismatch for layer\.weight.*\[60, 7\].*\[60, 6\]"),
    ],
)
def test_weights_that_do_not_fit_are_listed_and_publish_nothing(
    tmp_path: Path, repository: Path, weights: dict[str, tuple[int, ...]], message: str
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in weights.items()}, path)
    before = tree(repository)
    with pytest.raises(InputError, match=message) as caught:
        export(tmp_path, repository, LOADS, path)
    assert "\n" not in str(caught.value)
    assert tree(repository) == before
