"""config.pbtxt for each Triton model, written through Triton's own protobuf.

    cpu         CPU, fp32: loads anywhere, and is the default
    gpu         GPU, fp32, TF32 off, one pinned convolution algorithm: the strict tier
    gpu-fp16    GPU, the fp16 file if the version has one: the fast tier
    tensorrt    GPU, the fp16 file if the version has one, through TensorRT

`tritonserver --model-config-name gpu` picks configs/gpu.pbtxt. Source: the READMEs of Triton's onnxruntime_backend and
of its model configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from google.protobuf import text_format
from onnx import ModelProto, TensorProto, shape_inference
from tritonclient.grpc import model_config_pb2 as triton

from export.options import ExportOptions
from ganvas_core.interface import Interface, Tensor
from ganvas_core.names import FP16_FILE, FP32_FILE
from ganvas_core.triton_keys import AUTO, wrong_keys

__all__ = ["CONFIG_NAMES", "DEFAULT_CONFIG", "Shapes", "batch_shapes", "buckets", "check_keys", "config_text"]

CONFIG_NAMES = ("cpu", "gpu", "gpu-fp16", "tensorrt")
DEFAULT_CONFIG = "cpu"

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a value to its sizes without the batch, which comes first."""

_TENSORRT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)


def config_text(
    config_name: str,
    triton_name: str,
    interface: Interface,
    options: ExportOptions,
    *,
    shapes: Shapes,
    pinned_batch: int | None = None,
    has_fp16: bool = True,
    describe: Callable[[str], Mapping[str, str]] = lambda file_name: {},
) -> str:
    """The text of configs/{config_name}.pbtxt.

    Args:
        shapes: of the values in the graph that TensorRT gets.
        pinned_batch: the one batch size to run, to which our backend fills up smaller ones.
        has_fp16: whether there is an fp16 file; without one every configuration takes the fp32 file.
        describe: the parameters for clients, where this ONNX file is served.
    """
    config = triton.ModelConfig(
        name=triton_name,
        backend="onnxruntime",
        max_batch_size=options.max_batch_size,
        version_policy=triton.ModelVersionPolicy(all=triton.ModelVersionPolicy.All()),
        input=[
            triton.ModelInput(name=tensor.name, data_type=_data_type(tensor), dims=tensor.dims)
            for tensor in interface.inputs
        ],
        output=[
            triton.ModelOutput(name=tensor.name, data_type=_data_type(tensor), dims=tensor.dims)
            for tensor in interface.outputs
        ],
        # Take what waits and never wait for more. A bound on the queue would turn off Triton 2.51's prefetching, and
        # with it half of the throughput: the sampling service bounds what it lets in.
        dynamic_batching=triton.ModelDynamicBatching(),
    )
    # A request of zeros (seed 0, label 0) for every bucket.
    for batch_size in buckets(options.max_batch_size):
        warm_up = config.model_warmup.add(name=f"batch_{batch_size}", batch_size=batch_size)
        for tensor in interface.inputs:
            zeros = triton.ModelWarmup.Input(data_type=_data_type(tensor), dims=tensor.dims, zero_data=True)
            warm_up.inputs[tensor.name].CopyFrom(zeros)
    _place(config, config_name, options)
    if config_name == "tensorrt":
        _set_profile(config, shapes, [pinned_batch] if pinned_batch else buckets(options.max_batch_size))
    if not has_fp16:
        config.default_model_filename = FP32_FILE
    if pinned_batch is not None:
        _set(config, batch_buckets=str(pinned_batch))
    _set(config, **describe(config.default_model_filename))
    check_keys(config)
    return str(text_format.MessageToString(config))


def check_keys(config: triton.ModelConfig) -> None:
    """Check what Triton's protobuf leaves open: the names of parameters.

    Raises:
        ValueError: lists the keys that neither NVIDIA's backend nor ours has.
    """
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    wrong = wrong_keys(config.parameters, [(entry.name, entry.parameters) for entry in accelerators])
    if wrong:
        raise ValueError(f"the configuration of {config.name} is wrong: {'; '.join(wrong)}.")


def batch_shapes(model: ModelProto) -> Shapes:
    """Every value of a graph whose first dimension is the batch and whose other sizes are known, constants apart.

    TensorRT takes the graph in parts, and only a machine with TensorRT can tell where one begins: what it does not
    take, the 64-bit noise at the least, stays with CUDA. So the shape of every value is stated that may be an input of
    a part. ONNX Runtime looks the inputs of a part up by name, and passes over other names.
    """
    graph = shape_inference.infer_shapes(model).graph
    shapes: dict[str, tuple[int, ...]] = {}
    for value in (*graph.input, *graph.value_info):
        tensor = value.type.tensor_type
        dims = list(tensor.shape.dim)
        is_open = bool(dims) and dims[0].HasField("dim_param")
        known = all(size.HasField("dim_value") for size in dims[1:])
        if is_open and known and tensor.elem_type in _TENSORRT_TYPES and not set(value.name) & set(",:"):
            shapes[value.name] = tuple(size.dim_value for size in dims[1:])
    return shapes


def buckets(max_batch_size: int) -> tuple[int, ...]:
    """The batch sizes to warm up: powers of two below the largest, and the largest."""
    powers = [2**i for i in range(max_batch_size.bit_length()) if 2**i < max_batch_size]
    return (*powers, max_batch_size)


def _data_type(tensor: Tensor) -> int:
    return int(triton.DataType.Value(f"TYPE_{tensor.datatype}"))


def _place(config: triton.ModelConfig, config_name: str, options: ExportOptions) -> None:
    """Where the model runs, from which file, and how."""
    config.default_model_filename = FP16_FILE if config_name in ("gpu-fp16", "tensorrt") else FP32_FILE
    if config_name == "cpu":
        auto = options.instances == 0
        config.instance_group.add(count=options.instances or 1, kind=triton.ModelInstanceGroup.KIND_CPU)
        if auto:
            _set(config, instances=AUTO)  # `serve` writes the count of its machine; another server has one
        _set(config, intra_op_thread_count=str(options.threads), inter_op_thread_count="1")
        return
    config.instance_group.add(count=1, kind=triton.ModelInstanceGroup.KIND_GPU)
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    if config_name == "tensorrt":
        # The file says which nodes are fp16; FP16 lets TensorRT use kernels for them. Engines take minutes to build, so
        # they are kept: by our backend in the user's cache folder, by NVIDIA's where Triton was started.
        kept = {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"}
        accelerators.add(name="tensorrt", parameters={"precision_mode": "FP16", **kept})
        return
    strict = config_name == "gpu"
    search, code = ("DEFAULT", "2") if strict else ("HEURISTIC", "1")
    accelerators.add(name="cuda", parameters={"cudnn_conv_algo_search": search, "use_tf32": "0" if strict else "1"})
    # NVIDIA's backend lets this older place win wherever a config has any parameter at all, so say the same twice.
    _set(config, cudnn_conv_algo_search=code)
    if strict:
        # Ours pads every batch to one shape, and so to one algorithm; NVIDIA's has no such key.
        _set(config, batch_buckets=str(options.max_batch_size))


def _set_profile(config: triton.ModelConfig, shapes: Shapes, batches: Sequence[int]) -> None:
    """One engine for every batch size, fastest at the largest: without it, each new size builds an engine anew."""
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    for bound, batch in (("min", batches[0]), ("opt", batches[-1]), ("max", batches[-1])):
        texts = [f"{name}:{'x'.join(map(str, (batch, *sizes)))}" for name, sizes in shapes.items()]
        accelerator.parameters[f"trt_profile_{bound}_shapes"] = ",".join(texts)


def _set(config: triton.ModelConfig, **parameters: str) -> None:
    for key, value in parameters.items():
        config.parameters[key].string_value = value
