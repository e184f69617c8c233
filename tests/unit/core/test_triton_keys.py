from __future__ import annotations

from ganvas_core.triton_keys import wrong_keys


def test_keys_of_the_backend_are_right() -> None:
    accelerators = [
        ("cuda", {"use_tf32": "0"}),
        ("tensorrt", {"precision_mode": "FP16", "trt_profile_min_shapes": "x:1"}),
    ]
    assert wrong_keys(["intra_op_thread_count", "batch_buckets", "session.intra_op.allow_spinning"], accelerators) == []


def test_each_wrong_key_is_named_with_its_place() -> None:
    assert wrong_keys(["threads"], [("cuda", {"tf32": "0"}), ("openvino", {})]) == [
        "parameter 'threads' is none of the onnxruntime backend",
        "cuda has no parameter 'tf32'",
        "gpu_execution_accelerator 'openvino' is neither cuda nor tensorrt",
    ]
