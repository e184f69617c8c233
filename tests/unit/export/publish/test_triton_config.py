"""config.pbtxt, read back through Triton's own protobuf."""

from __future__ import annotations

import itertools

from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as triton

from export.options import ExportOptions
from export.publish.triton_config import CONFIG_NAMES, buckets, config_text
from ganvas_core.interface import Interface, Tensor, interface

SAMPLER = interface("sample", image=(16, 16, 3), latent_shape=(6,), num_labels=3)
OPTIONS = ExportOptions(name="digits", max_batch_size=16, instances=2, threads=3)


def parsed(config_name: str, tensors: Interface = SAMPLER) -> triton.ModelConfig:
    return text_format.Parse(config_text(config_name, "digits", tensors, OPTIONS), triton.ModelConfig())


def test_every_config_states_the_whole_contract() -> None:
    for config_name in CONFIG_NAMES:
        config = parsed(config_name)
        assert (config.name, config.backend, config.max_batch_size) == ("digits", "onnxruntime", 16)
        assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [
            ("seed", triton.TYPE_UINT64, [1]),
            ("truncation", triton.TYPE_FP32, [1]),
            ("label", triton.TYPE_INT64, [1]),
        ]
        assert [(o.name, o.data_type, list(o.dims)) for o in config.output] == [
            ("image", triton.TYPE_UINT8, [16, 16, 3])
        ]
        assert config.version_policy.WhichOneof("policy_choice") == "all"


def test_every_config_batches_what_waits_and_waits_for_nothing() -> None:
    for config_name in CONFIG_NAMES:
        config = parsed(config_name)
        assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
        assert config.dynamic_batching == triton.ModelDynamicBatching()


def test_every_config_warms_every_bucket_with_every_input() -> None:
    for config_name in CONFIG_NAMES:
        warm_ups = parsed(config_name).model_warmup
        assert [warm_up.batch_size for warm_up in warm_ups] == [1, 2, 4, 8, 16]
        for warm_up in warm_ups:
            assert {(n, i.data_type, tuple(i.dims), i.zero_data) for n, i in warm_up.inputs.items()} == {
                ("seed", triton.TYPE_UINT64, (1,), True),
                ("truncation", triton.TYPE_FP32, (1,), True),
                ("label", triton.TYPE_INT64, (1,), True),
            }


def test_cpu_config_has_instances_and_threads() -> None:
    config = parsed("cpu")
    assert [(g.kind, g.count) for g in config.instance_group] == [(triton.ModelInstanceGroup.KIND_CPU, 2)]
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "intra_op_thread_count": "3",
        "inter_op_thread_count": "1",
    }
    assert config.default_model_filename == "model.onnx"


def test_gpu_config_is_the_strict_tier() -> None:
    config = parsed("gpu")
    assert [(g.kind, g.count) for g in config.instance_group] == [(triton.ModelInstanceGroup.KIND_GPU, 1)]
    (cuda,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (cuda.name, dict(cuda.parameters)) == ("cuda", {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"})
    assert config.parameters["cudnn_conv_algo_search"].string_value == "2"
    assert config.parameters["batch_buckets"].string_value == "16"
    assert config.default_model_filename == "model.onnx"


def test_fast_gpu_configs_serve_the_fp16_file() -> None:
    names = {}
    for config_name in ("gpu-fp16", "tensorrt"):
        config = parsed(config_name)
        assert config.default_model_filename == "model.fp16.onnx"
        assert config.instance_group[0].kind == triton.ModelInstanceGroup.KIND_GPU
        names[config_name] = config.optimization.execution_accelerators.gpu_execution_accelerator[0].name
    assert names == {"gpu-fp16": "cuda", "tensorrt": "tensorrt"}


def test_tensorrt_keeps_its_engines() -> None:
    (accelerator,) = parsed("tensorrt").optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["trt_engine_cache_enable"] == "1"
    assert accelerator.parameters["trt_timing_cache_enable"] == "1"


def test_encode_config_takes_images() -> None:
    encode = interface("encode", image=(16, 16, 1), latent_shape=(4,), num_labels=3)
    config = parsed("cpu", encode)
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("image", triton.TYPE_UINT8, [16, 16, 1])]
    assert [(o.name, list(o.dims)) for o in config.output] == [("mean", [4]), ("logvar", [4])]


def test_unconditional_sampler_has_no_label() -> None:
    sampler = interface("sample", image=(16, 16, 3), latent_shape=(6,), num_labels=0)
    assert sampler.inputs == (
        Tensor(name="seed", datatype="UINT64", dims=(1,)),
        Tensor(name="truncation", datatype="FP32", dims=(1,)),
    )


@given(st.integers(1, 1024))
def test_buckets_double_from_one_and_end_with_the_largest(max_batch_size: int) -> None:
    sizes = buckets(max_batch_size)
    assert sizes[0] == 1
    assert sizes[-1] == max_batch_size
    assert all(low < high <= 2 * low for low, high in itertools.pairwise(sizes))
