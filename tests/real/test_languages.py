"""The examples of docs/languages.md against a real server: they give the bytes that the Python client gets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.local_server import LocalServer
from ganvas_client import Sampler
from tests.support.languages import NODE, ROOT, go_command, missing_for_go, missing_for_node, run

pytestmark = [pytest.mark.triton, pytest.mark.slow]

SEEDS = [0, 42, 2**53 + 1, 2**64 - 1]


def check_sample(command: Sequence[str], served: LocalServer, folder: Path) -> None:
    for model in ("tiny-gan", "plain-gan"):
        *lines, last = run([*command, served.service, model, *map(str, SEEDS)], folder).splitlines()
        with Sampler(served.service) as sampler:
            images = sampler.sample(model, SEEDS)
        assert lines == [f"{image.seed} {hashlib.sha256(image.bytes).hexdigest()}" for image in images]
        assert last == "decoding their latents gives the same bytes"
        for image in images:
            with Image.open(folder / f"{image.seed}.png") as file:
                assert np.array_equal(np.asarray(file), np.squeeze(image.array))


@pytest.mark.skipif(missing_for_node(packages=True) is not None, reason=missing_for_node(packages=True) or "")
def test_node_example_gives_the_same_images(served: LocalServer, tmp_path: Path) -> None:
    check_sample(["node", str(NODE / "sample.mjs")], served, tmp_path)


@pytest.mark.skipif(missing_for_go(packages=True) is not None, reason=missing_for_go(packages=True) or "")
def test_go_example_gives_the_same_images(served: LocalServer, tmp_path: Path) -> None:
    check_sample(go_command("sample", tmp_path, generate=True), served, tmp_path)


def test_curl_example_writes_the_image(served: LocalServer, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "languages.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```bash\n(# png\.sh:.*?)^```", page, re.M | re.S)
    script = example.replace("127.0.0.1:50051", served.service).replace("digits-gan", "tiny-gan")
    run(["bash", "-euo", "pipefail", "-c", script], tmp_path)
    with Sampler(served.service) as sampler, Image.open(tmp_path / "42.png") as file:
        assert np.array_equal(np.asarray(file), sampler.sample("tiny-gan", 42, labels=7).array[0, :, :, 0])
