"""docs/edge/index.html in a real browser, without a window: the image of a seed, within a level of ONNX Runtime's."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganvas_core.interface import sample_inputs
from ganvas_core.names import FP32_FILE
from ganvas_core.session import CpuSession
from tests.real.test_edge import EDGE

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        not (EDGE / "node_modules" / "onnxruntime-web").is_dir(),
        reason="needs onnxruntime-web: cd docs/edge; npm install",
    ),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(model_repository: Path, tmp_path: Path) -> Iterator[str]:
    """The page beside tiny-gan's model.onnx, as docs/edge.md has it served."""
    shutil.copy(EDGE / "index.html", tmp_path)
    shutil.copy(model_repository / "tiny-gan" / "1" / FP32_FILE, tmp_path)
    (tmp_path / "node_modules").symlink_to(EDGE / "node_modules")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_draws_the_image_of_its_seed(address: str, model_repository: Path, tmp_path: Path) -> None:
    assert BROWSER is not None
    seed = 2**64 - 1
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=60000",
        "--dump-dom",
        f"{address}/?seed={seed}&truncation=0.7&label=3",
    ]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    found = re.search(r'src="data:image/png;base64,([^"]+)"', page)
    assert found is not None, page
    made = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB"))
    (expected,) = CpuSession(model_repository / "tiny-gan" / "1" / FP32_FILE).run(sample_inputs([seed], 0.7, 3))
    assert made.shape == (32, 32, 3)
    assert np.abs(made.astype(np.int16) - expected[0]).max() <= 1
    assert made.std() > 5
