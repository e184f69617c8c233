"""The keys that a model configuration of the onnxruntime backend may have, which Triton's protobuf leaves open.

Triton passes unknown parameters on without a word, and NVIDIA's backend ignores many of them, so that a misspelled key
shows nowhere. Sources:

    PARAMETERS, TENSORRT   README.md of github.com/triton-inference-server/onnxruntime_backend at commit
                           013d274504599ff36f0a9518322adb5b760c03d1: "Model Config Options", "Deprecated Parameters",
                           "Parameter mapping between ONNX Runtime and Triton ONNXRuntime Backend"
    CUDA                   the options at onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html, as ONNX
                           Runtime 1.31.1 has them: a test looks each name up in libonnxruntime_providers_cuda.so
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ganvas_core.description import KEY_PREFIX

__all__ = ["AUTO", "CUDA", "OURS", "PARAMETERS", "PREFIXES", "TENSORRT", "wrong_keys"]

PARAMETERS = frozenset(
    [
        "arena_extend_strategy",
        "cudnn_conv_algo_search",
        "do_copy_in_default_stream",
        "enable_mem_arena",
        "enable_mem_pattern",
        "execution_mode",
        "gpu_mem_limit",
        "inter_op_thread_count",
        "intra_op_thread_count",
        "memory.enable_memory_arena_shrinkage",
        "session.use_device_allocator_for_initializers",
    ]
)
"""Of the model."""

OURS = frozenset(["batch_buckets", "instances"])
"""Of the model; NVIDIA's backend ignores them."""

AUTO = "auto"
"""Of the parameter `instances`: as many as the machine that serves the model has processors for."""

PREFIXES = ("session.", KEY_PREFIX)
"""Session configuration entries of ONNX Runtime, which our backend passes on, and what no backend looks at: the
descriptions of versions, for clients."""

TENSORRT = frozenset(
    [
        "int8_calibration_table_name",
        "int8_use_native_calibration_table",
        "max_workspace_size_bytes",
        "precision_mode",
        "trt_auxiliary_streams",
        "trt_build_heuristics_enable",
        "trt_builder_optimization_level",
        "trt_context_memory_sharing_enable",
        "trt_cuda_graph_enable",
        "trt_detailed_build_log",
        "trt_dla_core",
        "trt_dla_enable",
        "trt_dump_ep_context_model",
        "trt_dump_subgraphs",
        "trt_engine_cache_enable",
        "trt_engine_cache_path",
        "trt_engine_cache_prefix",
        "trt_ep_context_embed_mode",
        "trt_ep_context_file_path",
        "trt_extra_plugin_lib_paths",
        "trt_force_sequential_engine_build",
        "trt_force_timing_cache",
        "trt_layer_norm_fp32_fallback",
        "trt_max_partition_iterations",
        "trt_min_subgraph_size",
        "trt_profile_max_shapes",
        "trt_profile_min_shapes",
        "trt_profile_opt_shapes",
        "trt_sparsity_enable",
        "trt_tactic_sources",
        "trt_timing_cache_enable",
        "trt_timing_cache_path",
    ]
)
"""Of the gpu_execution_accelerator `tensorrt`."""

CUDA = frozenset(
    [
        "arena_extend_strategy",
        "cudnn_conv1d_pad_to_nc1d",
        "cudnn_conv_algo_search",
        "cudnn_conv_use_max_workspace",
        "do_copy_in_default_stream",
        "enable_cuda_graph",
        "enable_skip_layer_norm_strict_mode",
        "fuse_conv_bias",
        "gpu_mem_limit",
        "prefer_nhwc",
        "sdpa_kernel",
        "tunable_op_enable",
        "tunable_op_max_tuning_duration_ms",
        "tunable_op_tuning_enable",
        "use_ep_level_unified_stream",
        "use_tf32",
    ]
)
"""Of the gpu_execution_accelerator `cuda`."""


def wrong_keys(parameters: Iterable[str], accelerators: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """What is not in the tables, a phrase each.

    Args:
        parameters: the names of the model's parameters.
        accelerators: name and parameters of each gpu_execution_accelerator.
    """
    wrong = [
        f"parameter {key!r} is none of the onnxruntime backend"
        for key in parameters
        if key not in PARAMETERS | OURS and not key.startswith(PREFIXES)
    ]
    tables = {"tensorrt": TENSORRT, "cuda": CUDA}
    for name, keys in accelerators:
        if name not in tables:
            wrong.append(f"gpu_execution_accelerator {name!r} is neither cuda nor tensorrt")
        else:
            wrong += [f"{name} has no parameter {key!r}" for key in keys if key not in tables[name]]
    return wrong
