"""config.pbtxt, read back through Triton's own protobuf."""

from __future__ import annotations

import dataclasses
import itertools
import mmap
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as triton

from export.graph.build import Graphs
from export.options import ExportOptions
from export.publish.triton_config import CONFIG_NAMES, batch_shapes, buckets, check_keys, config_text
from ganvas_core.interface import Interface, Tensor, interface
from ganvas_core.triton_keys import CUDA, TENSORRT

SAMPLER = interface("sample", image=(16, 16, 3), latent_shape=(6,), num_labels=3)
OPTIONS = ExportOptions(name="digits", max_batch_size=16, instances=2, threads=3)


SHAPES = {"latent": (6,), "truncation": (1,), "network/x/fp16": (8, 4, 4)}


def parsed(
    config_name: str, tensors: Interface = SAMPLER, pinned_batch: int | None = None, options: ExportOptions = OPTIONS
) -> triton.ModelConfig:
    text = config_text(config_name, "digits", tensors, options, shapes=SHAPES, pinned_batch=pinned_batch)
    return text_format.Parse(text, triton.ModelConfig())


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


def test_cpu_config_leaves_the_instances_to_the_machine_that_serves() -> None:
    config = parsed("cpu", options=dataclasses.replace(OPTIONS, instances=0))
    assert [group.count for group in config.instance_group] == [1]
    assert config.parameters["instances"].string_value == "auto"


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


@pytest.mark.parametrize(("pinned_batch", "smallest"), [(None, 1), (16, 16)])
def test_tensorrt_has_one_profile_from_the_smallest_bucket_to_the_largest(
    pinned_batch: int | None, smallest: int
) -> None:
    (accelerator,) = parsed(
        "tensorrt", pinned_batch=pinned_batch
    ).optimization.execution_accelerators.gpu_execution_accelerator
    for bound, batch in (("min", smallest), ("opt", 16), ("max", 16)):
        assert accelerator.parameters[f"trt_profile_{bound}_shapes"] == (
            f"latent:{batch}x6,truncation:{batch}x1,network/x/fp16:{batch}x8x4x4"
        )


def test_the_profile_has_every_value_that_tensorrt_may_be_given(graphs: Graphs) -> None:
    for key, graph in graphs.files.items():
        shapes = batch_shapes(graph.model)
        names = {value.name for value in graph.model.graph.input} | {
            name for node in graph.model.graph.node for name in node.output
        }
        assert shapes.keys() <= names
        assert shapes["latent"] == (6,), key
        assert "seed" not in shapes  # uint64
        assert not any(tensor.name in shapes for tensor in graph.model.graph.initializer)
        convolved = [node.output[0] for node in graph.model.graph.node if "Conv" in node.op_type]
        assert set(convolved) <= shapes.keys()


PLANTED: dict[str, tuple[Callable[[triton.ModelConfig], None], str]] = {
    "a parameter": (
        lambda config: _parameter(config, "intra_op_thread_cuont"),
        "parameter 'intra_op_thread_cuont' is none",
    ),
    "of cuda": (lambda config: _accelerator(config, "cuda", "use_ft32"), "cuda has no parameter 'use_ft32'"),
    "of tensorrt": (
        lambda config: _accelerator(config, "tensorrt", "trt_engine_cache_enabled"),
        "tensorrt has no parameter 'trt_engine_cache_enabled'",
    ),
    "an accelerator": (
        lambda config: _accelerator(config, "tensorrtx", "precision_mode"),
        "'tensorrtx' is neither cuda",
    ),
}


def _parameter(config: triton.ModelConfig, key: str) -> None:
    config.parameters[key].string_value = "1"


def _accelerator(config: triton.ModelConfig, name: str, key: str) -> None:
    config.optimization.execution_accelerators.gpu_execution_accelerator.add(name=name, parameters={key: "1"})


@pytest.mark.parametrize("where", PLANTED)
@pytest.mark.parametrize("config_name", CONFIG_NAMES)
def test_a_misspelled_key_is_refused(config_name: str, where: str) -> None:
    config = parsed(config_name)
    check_keys(config)
    plant, message = PLANTED[where]
    plant(config)
    with pytest.raises(ValueError, match=message):
        check_keys(config)


@pytest.mark.parametrize(
    ("library", "keys"),
    [("cuda", CUDA), ("tensorrt", {key for key in TENSORRT if key.startswith("trt_")})],
)
def test_the_providers_of_the_pinned_onnx_runtime_have_every_key_of_the_table(
    library: str, keys: frozenset[str]
) -> None:
    path = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{library}.so"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert [key for key in keys if data.find(b"\0" + key.encode() + b"\0") < 0] == []


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
