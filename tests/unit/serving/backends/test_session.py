from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from serving.backends.onnxruntime import ganvas_session as session
from serving.backends.onnxruntime.ganvas_completion import complete
from serving.backends.onnxruntime.ganvas_session import Config, ConfigError
from tests.support.triton import identity_model

X = {"name": "x", "data_type": "TYPE_FP32", "dims": [3]}
Y = {"name": "y", "data_type": "TYPE_FP32", "dims": [3]}


def config(parameters: dict[str, str] | None = None, **values: Any) -> Config:
    strings = {key: {"string_value": value} for key, value in (parameters or {}).items()}
    return Config({"max_batch_size": 4, "input": [X], "output": [Y], "parameters": strings, **values})


def accelerated(*accelerators: tuple[str, dict[str, str]], **parameters: str) -> Config:
    items = [{"name": name, "parameters": options} for name, options in accelerators]
    return config(parameters, optimization={"execution_accelerators": {"gpu_execution_accelerator": items}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(identity_model().SerializeToString())
    return file


def test_session_options_follow_the_configuration() -> None:
    parameters = {
        "intra_op_thread_count": "3",
        "inter_op_thread_count": "2",
        "execution_mode": "1",
        "enable_mem_arena": "false",
        "enable_mem_pattern": "0",
        "session.intra_op.allow_spinning": "0",
    }
    options = session._session_options(config(parameters, optimization={"graph": {"level": 2}}))
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_session_options_are_onnx_runtime_s_where_the_configuration_says_nothing() -> None:
    ours, theirs = session._session_options(Config({})), ort.SessionOptions()
    for name in (
        "intra_op_num_threads",
        "inter_op_num_threads",
        "execution_mode",
        "enable_cpu_mem_arena",
        "enable_mem_pattern",
        "graph_optimization_level",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize(
    ("key", "value", "limit"),
    [
        ("intra_op_thread_count", "-1", "within [0, 4096]"),
        ("inter_op_thread_count", "two", "within [0, 4096]"),
        ("execution_mode", "2", "within [0, 1]"),
        ("enable_mem_arena", "maybe", "true, false, 1 or 0"),
        ("enable_mem_pattern", "2", "true, false, 1 or 0"),
    ],
)
def test_session_names_the_parameter_the_value_and_the_limit_when_wrong(
    path: Path, key: str, value: str, limit: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        session.open_session(path, config({key: value}), device=None)
    message = str(caught.value)
    assert message.startswith(f"parameter {key} must be")
    assert limit in message
    assert repr(value) in message


def test_session_rejects_a_graph_level_that_is_none(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optimization.graph.level must be -1, 0, 1 or 2; got 7"):
        session.open_session(path, config(optimization={"graph": {"level": 7}}), device=None)


def test_session_runs_what_the_file_holds(path: Path) -> None:
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(session.open_session(path, config(), device=None).run(["y"], {"x": x})[0], x)


def test_session_names_the_file_when_it_is_no_model(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConfigError, match=f"^cannot load {path}: "):
        session.open_session(path, config(), device=None)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_session_does_not_fall_back_to_the_cpu_in_silence(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"GPU 0|cannot load"):
        session.open_session(path, config(), device=0)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_session_without_fall_back_is_given_no_cpu_and_says_what_it_would_take(path: Path) -> None:
    """ONNX Runtime refuses the flag beside an explicit CPU provider; without a GPU every node falls to the CPU."""
    with pytest.raises(ConfigError, match="fallback to CPU EP has been explicitly disabled"):
        session.open_session(path, config({session.NO_FALLBACK: "1"}), device=0)


def test_providers_of_a_gpu_instance_carry_the_options_of_both_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    made = accelerated(
        ("tensorrt", {"precision_mode": "FP16", "max_workspace_size_bytes": "64", "trt_engine_cache_enable": "1"}),
        ("cuda", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
        cudnn_conv_algo_search="2",
        gpu_mem_limit="1000",
    )
    (tensorrt, tensorrt_options), (cuda, cuda_options), (cpu, _) = session._providers(made, 1)
    assert (tensorrt, cuda, cpu) == (session.TENSORRT_PROVIDER, session.CUDA_PROVIDER, session.CPU_PROVIDER)
    assert tensorrt_options == {
        "trt_fp16_enable": "1",
        "trt_max_workspace_size": "64",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/cache/ganvas/tensorrt",
        "device_id": "1",
    }
    elsewhere = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": "engines", "trt_timing_cache_enable": "0"}
    assert session._tensorrt_options(elsewhere) == elsewhere
    assert cuda_options == {
        "cudnn_conv_algo_search": "HEURISTIC",
        "gpu_mem_limit": "1000",
        "use_tf32": "0",
        "device_id": "1",
    }


def test_providers_of_a_cpu_instance_are_the_cpu_whatever_gpus_may_use() -> None:
    assert session._providers(accelerated(("cuda", {})), None) == [(session.CPU_PROVIDER, {})]


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (accelerated(("openvino", {})), "must be cuda or tensorrt; got 'openvino'"),
        (accelerated(("tensorrt", {"precision_mode": "FP8"})), "precision_mode must be one of .*; got 'FP8'"),
        (accelerated(("cuda", {"enable_cuda_graph": "1"})), "enable_cuda_graph needs .* fixed addresses"),
        (accelerated(("tensorrt", {"speed": "1"})), "unknown parameter 'speed' of the tensorrt accelerator"),
        (accelerated(cudnn_conv_algo_search="9"), "cudnn_conv_algo_search must be one of 0, 1, 2; got '9'"),
    ],
)
def test_providers_name_what_is_wrong(made: Config, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        session._providers(made, 0)


def test_model_file_is_the_default_the_named_one_or_the_one_in_the_named_folder(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.fp16.onnx", "folder/model.onnx", "deep/other.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name, found in [
        ("", "model.onnx"),
        ("model.fp16.onnx", "model.fp16.onnx"),
        ("folder", "folder/model.onnx"),
        ("deep/other.onnx", "deep/other.onnx"),
    ]:
        assert session.model_file(tmp_path, config(default_model_filename=name)) == tmp_path / found


@pytest.mark.parametrize("name", ["../2/model.onnx", "/etc/passwd", "a/../../model.onnx"])
def test_model_file_must_stay_inside_its_version(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"default_model_filename must name a file inside .*; got '{name}'"):
        session.model_file(tmp_path, config(default_model_filename=name))


def test_model_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"there is no file {tmp_path}/model.onnx"):
        session.model_file(tmp_path, config())


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"output": [{**Y, "name": "z"}]}, "the model has no output 'z'; it has y"),
        ({"input": [{**X, "data_type": "TYPE_FP16"}]}, "input 'x' is TYPE_FP32 in the model, TYPE_FP16 in the config"),
        ({"output": [{**Y, "dims": [4]}]}, r"output 'y' has shape \[-1, 3\] in the model, \[-1, 4\] in the config"),
        ({"max_batch_size": 0}, r"has shape \[-1, 3\] in the model, \[3\] in the config"),
        ({"input": []}, "needs input 'x', which the configuration does not have"),
    ],
)
def test_configuration_that_contradicts_the_graph_is_an_error(path: Path, values: dict[str, Any], problem: str) -> None:
    opened = session.open_session(path, config(), device=None)
    session.check_tensors(config(), opened)
    with pytest.raises(ConfigError, match=problem):
        session.check_tensors(config(**values), opened)


class ModelConfig:
    """Triton's ModelConfig, as far as a backend writes to it."""

    def __init__(self, **values: Any) -> None:
        self.values = {"max_batch_size": 0, "input": [], "output": [], **values}

    def as_dict(self) -> dict[str, Any]:
        return self.values

    def set_max_batch_size(self, size: int) -> None:
        self.values["max_batch_size"] = size

    def set_dynamic_batching(self) -> None:
        self.values["dynamic_batching"] = {}

    def add_input(self, entry: dict[str, Any]) -> None:
        self.values["input"].append(entry)

    def add_output(self, entry: dict[str, Any]) -> None:
        self.values["output"].append(entry)


def test_completion_reads_everything_from_the_graph(path: Path) -> None:
    made = ModelConfig()
    complete(made, path.parent)
    assert made.values == {"max_batch_size": 4, "input": [X], "output": [Y], "dynamic_batching": {}}


def test_completion_keeps_the_batch_in_the_shape_when_the_graph_fixes_it(path: Path) -> None:
    path.write_bytes(identity_model(2).SerializeToString())
    made = ModelConfig()
    complete(made, path.parent)
    assert made.values == {"max_batch_size": 0, "input": [{**X, "dims": [2, 3]}], "output": [{**Y, "dims": [2, 3]}]}
    with pytest.raises(ConfigError, match="max_batch_size is 8, but"):
        complete(ModelConfig(max_batch_size=8), path.parent)


def test_completion_finds_the_version_above_a_file_in_a_folder(path: Path) -> None:
    (path.parent / "deep").mkdir()
    path.rename(path.parent / "deep" / "other.onnx")
    made = ModelConfig(default_model_filename="deep/other.onnx")
    complete(made, path.parent / "deep")
    assert made.values["input"] == [X]
