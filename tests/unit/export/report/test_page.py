"""report.html of a version."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from export.adapters.checkpoint import load_checkpoint
from export.adapters.source import Source
from export.graph.build import Graphs
from export.graph.writer import new_model
from export.pipeline import export_model
from export.proof.prove import prove
from export.report.page import graph_figures, report_html
from export.surgery.simplify import Change
from ganvas_core.certificate import file_sha256
from ganvas_core.names import FP32_FILE
from tests.unit.export.conftest import Exported, options


class Page(HTMLParser):
    """Image addresses, everything else that a browser would fetch, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.others: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and value is not None:
                (self.images if tag == "img" else self.others).append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_is_one_file_with_images_figures_and_tools(gan: Exported) -> None:
    path = gan.result.folder / "report.html"
    text = path.read_text()
    page, certificate = Page(text), gan.result.certificate
    assert certificate.attachments["report.html"] == file_sha256(path)
    assert page.others == []
    assert "url(" not in text
    assert len(page.images) == 6 * 3
    for address in page.images:
        data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).size == (16, 16)
    half = certificate.files["model.fp16.onnx"]
    assert half.pixel_parity is not None
    for said in (half.sha256, f"{half.num_bytes:,}", f"{half.pixel_parity.mean_levels:.4f}", "network/Tanh", "2.13.0"):
        assert said in page.text
    words = re.sub(r"\s+", " ", page.text)
    assert f"Worst: {half.pixel_parity.worst}" in words
    assert f"{half.pixel_parity.max_levels} of 255 levels in half arithmetic" in words
    assert f"{len(half.fp32_nodes)} of its " in words
    assert f"none: all alike, of {certificate.num_parity_seeds} images" in words


def test_report_without_an_fp16_file_shows_fp32_alone(gan: Exported, tmp_path: Path) -> None:
    source = load_checkpoint(gan.checkpoint)
    result = export_model(source, options(tmp_path / "models", precision="fp32"))
    page = Page((result.folder / "report.html").read_text())
    assert len(page.images) == 5
    assert "half arithmetic" not in page.text


def test_report_says_what_surgery_did_and_what_it_won(gan: Exported, source: Source, graphs: Graphs) -> None:
    proof = prove(source, graphs, options())
    change = Change(step="fold_constants", num_changed=12, won_ms=0.25)
    rewritten = {"network/MatMul": "computed as a 1x1 convolution"}
    fp32 = dataclasses.replace(gan.result.certificate, files={FP32_FILE: gan.result.certificate.files[FP32_FILE]})
    page = Page(report_html(fp32, graphs, proof, changes=[change], rewritten=rewritten))
    words = re.sub(r"\s+", " ", page.text)
    assert "such as scales of weights12+0.250" in words
    assert "network/MatMul: computed as a 1x1 convolution, to give each row the same bytes" in words
    assert "simplified" not in report_html(fp32, graphs, proof)


def test_graph_figures_count_a_convolution() -> None:
    weight = np.zeros((8, 4, 3, 3), np.float16)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["y"], ["z"])],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", 4, 6, 5])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT16, ["batch", 8, 6, 5])],
        initializer=[numpy_helper.from_array(weight, "w")],
    )
    figures = graph_figures(new_model(graph))
    assert (figures.num_nodes, figures.num_parameters, figures.num_bytes) == (2, 288, 576)
    assert figures.num_flops == 2 * 8 * 6 * 5 * 4 * 9
    assert figures.operators == {"Conv": 1, "Relu": 1}
