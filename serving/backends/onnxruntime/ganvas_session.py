"""A Triton model configuration as an ONNX Runtime session: the keys that NVIDIA's onnxruntime backend takes, and how.

Imported by model.py inside Triton's stub, where this folder is on the path and nothing else of ours is.
docs/triton.md lists the keys.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import onnxruntime as ort

__all__ = [
    "CPU_PROVIDER",
    "Config",
    "ConfigError",
    "GraphTensor",
    "check_tensors",
    "graph_tensors",
    "model_file",
    "open_session",
    "run_options",
]

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
NO_FALLBACK = "session.disable_cpu_ep_fallback"
"""With it a model loads only if the GPU takes every node. What get_providers() says is what was registered, no more."""
GRAPH_LEVELS = {
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
CONV_SEARCHES = {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"}
ARENA_STRATEGIES = {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"}
TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
TENSORRT_PRECISIONS = {"FP32": None, "FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}
DATA_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
"""ONNX Runtime's name of a tensor type to Triton's."""


class ConfigError(ValueError):
    """A model that cannot be loaded; names the key or the file, and what it should be."""


class Config:
    """Triton's model configuration, as the JSON it hands to a backend."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self.max_batch_size = int(values.get("max_batch_size", 0))

    @property
    def file_name(self) -> str:
        return self._values.get("default_model_filename") or "model.onnx"

    @property
    def inputs(self) -> list[dict[str, Any]]:
        return list(self._values.get("input", []))

    @property
    def outputs(self) -> list[dict[str, Any]]:
        return list(self._values.get("output", []))

    @property
    def warm_up_sizes(self) -> list[int]:
        """The batch sizes of its warm-up requests."""
        return [int(request["batch_size"]) for request in self._values.get("model_warmup", [])]

    @property
    def graph_level(self) -> int:
        return int(self._values.get("optimization", {}).get("graph", {}).get("level", 0))

    def parameter(self, key: str, default: str = "") -> str:
        return str(self.parameters().get(key, default))

    def parameters(self) -> dict[str, str]:
        return {key: value["string_value"] for key, value in self._values.get("parameters", {}).items()}

    def integer(self, key: str, *, low: int, high: int) -> int:
        """An integer parameter; 0 if it is missing."""
        text = self.parameter(key, "0")
        if not text.strip().isdecimal() or not low <= int(text) <= high:
            raise ConfigError(f"parameter {key} must be a whole number within [{low}, {high}]; got {text!r}.")
        return int(text)

    def flag(self, key: str, default: bool) -> bool:
        text = self.parameter(key, str(default)).lower()
        if text not in ("true", "false", "1", "0"):
            raise ConfigError(f"parameter {key} must be true, false, 1 or 0; got {text!r}.")
        return text in ("true", "1")

    def accelerators(self, device: str) -> list[tuple[str, dict[str, str]]]:
        """Name and parameters of each {device}_execution_accelerator, in order."""
        found = self._values.get("optimization", {}).get("execution_accelerators", {})
        return [
            (item["name"], dict(item.get("parameters", {})))
            for item in found.get(f"{device}_execution_accelerator", [])
        ]


@dataclass(frozen=True, kw_only=True)
class GraphTensor:
    """An input or output of a graph, as Triton names types and shapes."""

    name: str
    data_type: str
    dims: list[int]
    """All of them, the batch too; -1 where the graph leaves one open."""


def model_file(version_folder: Path, config: Config) -> Path:
    """The ONNX file of a version: default_model_filename, or model.onnx inside it if that is a folder.

    Raises:
        ConfigError: there is none, or the name leads out of the version's folder.
    """
    name = PurePosixPath(config.file_name)
    if name.is_absolute() or ".." in name.parts:
        raise ConfigError(f"default_model_filename must name a file inside {version_folder}; got {config.file_name!r}.")
    path = version_folder / name
    if path.is_dir():
        path /= "model.onnx"
    if not path.is_file():
        raise ConfigError(f"there is no file {path}: export the model again, or mend default_model_filename.")
    return path


def open_session(path: Path, config: Config, *, device: int | None) -> ort.InferenceSession:
    """The session that a model instance runs.

    Args:
        device: the GPU of a KIND_GPU instance; None: the CPU.
    Raises:
        ConfigError: a key has a wrong value, the file is no ONNX model, or the GPU cannot be used.
    """
    options, providers = _session_options(config), _providers(config, device)
    if device is not None:
        ort.preload_dlls()  # CUDA and cuDNN, where they came as wheels
        if config.flag(NO_FALLBACK, default=False):
            providers = [entry for entry in providers if entry[0] != CPU_PROVIDER]  # ONNX Runtime refuses both
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ConfigError(f"cannot load {path}: {error}") from None
    used = session.get_providers()[0]
    if used != providers[0][0]:
        raise ConfigError(
            f"cannot run {path} on GPU {device}: ONNX Runtime {ort.__version__} fell back from {providers[0][0]} to "
            f"{used}. Mend the driver, CUDA and cuDNN (onnxruntime.ai/docs/install), or choose the cpu configuration."
        )
    return session


def run_options(config: Config) -> ort.RunOptions | None:
    """Run options of every run of the model; None: the defaults."""
    key = "memory.enable_memory_arena_shrinkage"
    if not (devices := config.parameter(key)):
        return None
    options = ort.RunOptions()
    options.add_run_config_entry(key, devices)
    return options


def graph_tensors(tensors: list[Any]) -> list[GraphTensor]:
    """What session.get_inputs() or get_outputs() says.

    Raises:
        ConfigError: something else than a tensor of a type that Triton knows.
    """
    found = []
    for tensor in tensors:
        if tensor.type not in DATA_TYPES:
            raise ConfigError(f"{tensor.name} has type {tensor.type}, for which Triton has no data_type.")
        dims = [dim if isinstance(dim, int) else -1 for dim in tensor.shape]
        found.append(GraphTensor(name=tensor.name, data_type=DATA_TYPES[tensor.type], dims=dims))
    return found


def check_tensors(config: Config, session: ort.InferenceSession) -> None:
    """Compare the configuration with the graph.

    Raises:
        ConfigError: a name, type or shape differs, or an input is missing.
    """
    graph_inputs, graph_outputs = graph_tensors(session.get_inputs()), graph_tensors(session.get_outputs())
    _check_side("input", config.inputs, graph_inputs, config.max_batch_size > 0)
    _check_side("output", config.outputs, graph_outputs, config.max_batch_size > 0)
    for missing in {port.name for port in graph_inputs} - {entry["name"] for entry in config.inputs}:
        raise ConfigError(f"the model needs input {missing!r}, which the configuration does not have.")


def _check_side(side: str, entries: list[dict[str, Any]], graph: list[GraphTensor], batched: bool) -> None:
    known = {port.name: port for port in graph}
    for entry in entries:
        name = entry["name"]
        if name not in known:
            raise ConfigError(f"the model has no {side} {name!r}; it has {', '.join(sorted(known))}.")
        port = known[name]
        if entry["data_type"] != port.data_type:
            raise ConfigError(f"{side} {name!r} is {port.data_type} in the model, {entry['data_type']} in the config.")
        shape = entry.get("reshape", {}).get("shape", entry["dims"])
        dims = [-1] * batched + [int(dim) for dim in shape]
        fits = len(dims) == len(port.dims) and all(-1 in (a, b) or a == b for a, b in zip(dims, port.dims, strict=True))
        if not fits:
            raise ConfigError(f"{side} {name!r} has shape {port.dims} in the model, {dims} in the config.")


def _session_options(config: Config) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = config.integer("intra_op_thread_count", low=0, high=4096)
    options.inter_op_num_threads = config.integer("inter_op_thread_count", low=0, high=4096)
    if config.integer("execution_mode", low=0, high=1):
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    if config.graph_level not in GRAPH_LEVELS:
        raise ConfigError(f"optimization.graph.level must be -1, 0, 1 or 2; got {config.graph_level}.")
    options.graph_optimization_level = GRAPH_LEVELS[config.graph_level]
    options.enable_cpu_mem_arena = config.flag("enable_mem_arena", default=True)
    options.enable_mem_pattern = config.flag("enable_mem_pattern", default=True)
    for key, value in config.parameters().items():
        if key.startswith("session."):
            options.add_session_config_entry(key, value)
    return options


def _providers(config: Config, device: int | None) -> list[tuple[str, dict[str, str]]]:
    """Execution providers with their options, the preferred first."""
    for name, _ in config.accelerators("cpu"):
        raise ConfigError(f"cpu_execution_accelerator {name!r} is not supported by this backend.")
    if device is None:
        return [(CPU_PROVIDER, {})]
    cuda, before = {**_cuda_parameters(config)}, []
    for name, parameters in config.accelerators("gpu"):
        if name == "tensorrt":
            before.append((TENSORRT_PROVIDER, {**_tensorrt_options(parameters), "device_id": str(device)}))
        elif name == "cuda":
            if parameters.get("enable_cuda_graph", "0").lower() not in ("0", "false"):
                raise ConfigError(
                    "enable_cuda_graph needs inputs and outputs at fixed addresses, which Triton's requests do not "
                    "have: replays would read old inputs. Leave it out."
                )
            cuda.update(parameters)
        else:
            raise ConfigError(f"gpu_execution_accelerator must be cuda or tensorrt; got {name!r}.")
    return [*before, (CUDA_PROVIDER, {**cuda, "device_id": str(device)}), (CPU_PROVIDER, {})]


def _cuda_parameters(config: Config) -> dict[str, str]:
    """The CUDA options that may stand among the model's own parameters: the older place, of lower rank here."""
    options = {}
    for key, names in (
        ("cudnn_conv_algo_search", CONV_SEARCHES),
        ("arena_extend_strategy", ARENA_STRATEGIES),
        ("gpu_mem_limit", None),
        ("do_copy_in_default_stream", None),
    ):
        if value := config.parameter(key):
            if names is not None and value not in names:
                raise ConfigError(f"parameter {key} must be one of {', '.join(names)}; got {value!r}.")
            options[key] = value if names is None else names[value]
    return options


def _tensorrt_options(parameters: dict[str, str]) -> dict[str, str]:
    options = {}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in TENSORRT_PRECISIONS:
                raise ConfigError(f"precision_mode must be one of {', '.join(TENSORRT_PRECISIONS)}; got {value!r}.")
            if (option := TENSORRT_PRECISIONS[value]) is not None:
                options[option] = "1"
        elif key in TENSORRT_NAMES or key.startswith("trt_"):
            options[TENSORRT_NAMES.get(key, key)] = value
        else:
            raise ConfigError(f"unknown parameter {key!r} of the tensorrt accelerator.")
    # Triton's working directory is of one run, and an engine takes minutes.
    for kind in ("engine", "timing"):
        if options.get(f"trt_{kind}_cache_enable", "").lower() in ("1", "true"):
            options.setdefault(f"trt_{kind}_cache_path", str(_cache_folder()))
    return options


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganvas" / "tensorrt"
