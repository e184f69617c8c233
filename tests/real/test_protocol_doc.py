"""Every example of docs/protocol.md runs against a real Triton and gives the bytes of bare ONNX Runtime."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from clients.local_server import LocalServer
from ganvas_client import Sampler
from serving.repository.reader import read_repository

pytestmark = [pytest.mark.triton, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


@pytest.fixture
def run(served: LocalServer, tmp_path: Path) -> Callable[..., str]:
    """Run an example of the page in an empty folder, with the addresses and the model of this test."""

    def run_example(file_name: str) -> str:
        text = PAGE.read_text(encoding="utf-8")
        (example,) = re.findall(rf"^```(?:python|bash)\n(# {re.escape(file_name)}:.*?)^```", text, re.M | re.S)
        for shown, used in {
            "127.0.0.1:8001": served.triton_grpc,
            "127.0.0.1:8000": served.triton_http,
            "127.0.0.1:50051": served.service,
            "digits-gan": "tiny-gan",
        }.items():
            example = example.replace(shown, used)
        (tmp_path / file_name).write_text(example)
        interpreter = [sys.executable] if file_name.endswith(".py") else ["bash", "-euo", "pipefail"]
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(
            [*interpreter, file_name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run_example


@pytest.fixture(scope="module")
def bare(model_repository: Path) -> Callable[..., NDArray[np.uint8]]:
    """Images [N,H,W,C] of tiny-gan from bare ONNX Runtime."""
    session = onnxruntime.InferenceSession(
        model_repository / "tiny-gan" / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )

    def make(seeds: list[int], labels: list[int], truncation: float) -> NDArray[np.uint8]:
        feeds = {
            "seed": np.array(seeds, np.uint64)[:, None],
            "truncation": np.full((len(seeds), 1), truncation, np.float32),
            "label": np.array(labels, np.int64)[:, None],
        }
        (images,) = session.run(["image"], feeds)
        return np.asarray(images)

    return make


def test_python_example_gives_the_bytes_of_bare_onnxruntime_and_of_the_service(
    run: Callable[..., str], bare: Callable[..., NDArray[np.uint8]], tmp_path: Path, served: LocalServer
) -> None:
    run("sample.py")
    images = np.load(tmp_path / "images.npy")
    assert images.dtype == np.uint8
    assert np.array_equal(images, bare(list(range(16)), [seed % 10 for seed in range(16)], 0.8))
    with Sampler(served.service) as sampler:
        assert np.array_equal(images, sampler.sample("tiny-gan", range(16), truncation=0.8).array)


def test_curl_example_with_json_gives_the_bytes_of_bare_onnxruntime(
    run: Callable[..., str], bare: Callable[..., NDArray[np.uint8]], tmp_path: Path
) -> None:
    run("json.sh")
    (output,) = json.loads((tmp_path / "image.json").read_text())["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("image", "UINT8", [1, 32, 32, 1])
    pixels = np.array(output["data"], np.uint8).reshape(1, 32, 32, 1)
    assert np.array_equal(pixels, bare([42], [7], 0.8))


def test_curl_example_with_binary_data_writes_the_same_image(
    run: Callable[..., str], bare: Callable[..., NDArray[np.uint8]], tmp_path: Path
) -> None:
    run("binary.sh")
    with Image.open(tmp_path / "image.pgm") as image:
        assert np.array_equal(np.asarray(image), bare([42], [7], 0.8)[0, :, :, 0])


def test_reflection_example_lists_the_calls_of_the_service(run: Callable[..., str]) -> None:
    services, *lines = run("explore.py").splitlines()
    assert "ganvas.v1.Sampler" in services
    assert "SampleStream SampleRequest SampleResponse" in lines
    assert len(lines) == 7


def test_every_example_of_the_page_is_run() -> None:
    blocks = re.findall(r"^```(?:python|bash)\n# ([\w.]+):", PAGE.read_text(encoding="utf-8"), re.M)
    assert blocks == ["sample.py", "json.sh", "binary.sh", "explore.py"]
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * len(blocks)


@pytest.mark.parametrize("name", ["tiny-gan", "tiny-vae", "plain-gan"])
def test_tables_of_the_page_are_what_triton_says(served: LocalServer, model_repository: Path, name: str) -> None:
    import tritonclient.grpc as client

    certificate = read_repository(model_repository).newest(name).certificate
    sizes = {
        "N": -1,
        "latent_shape": certificate.latent_shape[0],
        "H": certificate.height,
        "W": certificate.width,
        "1": 1,
    }
    sizes["C"] = certificate.channels
    rows = re.findall(
        r"^\| `(NAME[-\w]*)`(?: \(with an encoder\))? \| (.*) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M
    )
    assert [row[0] for row in rows] == ["NAME", "NAME-decode", "NAME-encode"]
    with client.InferenceServerClient(served.triton_grpc) as connection:
        for model, *sides in rows[: 3 if "encode" in certificate.roles else 2]:
            found = connection.get_model_metadata(model.replace("NAME", name), as_json=True)
            for side, cells in zip(("inputs", "outputs"), sides, strict=True):
                tensors = re.findall(r"`(\w+)` (\w+) \[([\w, ]+)\]", cells)
                expected = [
                    {"name": tensor, "datatype": kind, "shape": [str(sizes[size]) for size in shape.split(", ")]}
                    for tensor, kind, shape in tensors
                    if tensor != "label" or certificate.labels
                ]
                assert found[side] == expected
