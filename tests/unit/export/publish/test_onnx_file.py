"""How a graph is written: one file, or two above a limit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from export.adapters.source import Source
from export.errors import GateError
from export.graph.build import Graphs, build_graphs, export_networks
from export.graph.tensors import external_place, from_array, weights_in_files
from export.publish import onnx_file
from export.publish.onnx_file import write_graph, write_graphs
from ganvas_core.interface import sample_inputs
from ganvas_core.names import FP32_FILE
from ganvas_core.session import CpuSession

FEEDS = sample_inputs([1, 2**63], 1.0, [0, 2])


@pytest.fixture
def sampler(graphs: Graphs) -> ModelProto:
    return graphs.files["sample", FP32_FILE].model


def test_one_file_has_the_bytes_of_protocol_buffers(sampler: ModelProto, tmp_path: Path) -> None:
    file = write_graph(sampler, tmp_path / "model.onnx")
    data = sampler.SerializeToString(deterministic=True)
    assert (tmp_path / "model.onnx").read_bytes() == data
    assert (file.sha256, file.num_bytes, file.data) == (hashlib.sha256(data).hexdigest(), len(data), None)


def test_one_file_is_the_same_wherever_the_weights_lie(source: Source, tmp_path: Path) -> None:
    with weights_in_files():
        model = build_graphs(source, export_networks(source)).files["sample", FP32_FILE].model
        large = np.arange(2**15, dtype=np.float32)
        model.graph.initializer.append(from_array(large, "spare"))
        assert any(external_place(tensor) for tensor in model.graph.initializer)
        write_graph(model, tmp_path / "model.onnx")
    inline = onnx.load(tmp_path / "model.onnx")
    assert not any(external_place(tensor) for tensor in inline.graph.initializer)
    assert inline.SerializeToString(deterministic=True) == (tmp_path / "model.onnx").read_bytes()
    np.testing.assert_array_equal(numpy_helper.to_array(inline.graph.initializer[-1]), large)


def test_above_the_limit_the_weights_lie_beside_the_graph(sampler: ModelProto, tmp_path: Path) -> None:
    file = write_graph(sampler, tmp_path / "model.onnx", external_bytes=10_000)
    assert file.data == tmp_path / "model.onnx.data"
    assert file.data_sha256 == hashlib.sha256(file.data.read_bytes()).hexdigest()
    assert file.num_bytes == file.path.stat().st_size + file.data.stat().st_size
    assert file.data_sha256.encode() in file.path.read_bytes()  # so the graph's own hash is of all of the model
    onnx.checker.check_model(str(file.path))
    (made,), (wanted,) = (CpuSession(each).run(FEEDS) for each in (file.path, sampler.SerializeToString()))
    np.testing.assert_array_equal(made, wanted)


def test_no_weight_stays_behind_in_the_folder_of_the_export(source: Source, tmp_path: Path) -> None:
    with weights_in_files() as folder:
        model = build_graphs(source, export_networks(source)).files["sample", FP32_FILE].model
        assert {external_place(tensor) for tensor in model.graph.initializer} != {None}  # the quantiles of the noise
        file = write_graph(model, tmp_path / "model.onnx", external_bytes=10_000)
    assert str(folder).encode() not in file.path.read_bytes()
    assert CpuSession(file.path).run(FEEDS)[0].shape == (2, 16, 16, 3)


def test_graphs_of_one_network_have_one_file_of_weights(graphs: Graphs, tmp_path: Path) -> None:
    models = {key: graph.model for key, graph in graphs.files.items()}
    files = write_graphs(models, tmp_path, external_bytes=10_000)
    for file_name in ("model.onnx", "model.fp16.onnx"):
        decode, sample = files["decode", file_name], files["sample", file_name]
        assert decode.data is not None
        assert sample.data is not None
        assert decode.data.samefile(sample.data)
        assert decode.sha256 != sample.sha256


def test_weights_that_go_missing_are_refused(
    sampler: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(path: Path, chunks: object) -> tuple[str, int]:
        if path.suffix == ".data":
            return "", 0
        return write(path, chunks)  # type: ignore[arg-type]

    write = onnx_file._write
    monkeypatch.setattr(onnx_file, "_write", lose)
    with pytest.raises(GateError, match=r"external data of network/.* is missing: there is no file model\.onnx\.data"):
        write_graph(sampler, tmp_path / "model.onnx", external_bytes=10_000)


def test_weights_that_are_cut_short_are_refused(
    sampler: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "_aligned", lambda tensors: iter([bytes(100)]))
    with pytest.raises(GateError, match=r"is missing: model\.onnx\.data has 100 bytes, and it would end at"):
        write_graph(sampler, tmp_path / "model.onnx", external_bytes=10_000)
