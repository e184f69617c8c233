"""Our onnxruntime backend inside a real Triton, against bare ONNX Runtime."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as kserve
from numpy.typing import NDArray

from serving.triton.process import TritonProcess
from tests.support.gateway import eventually
from tests.support.triton import (
    NUM_LABELS,
    add_model,
    client,
    identity_model,
    infer,
    infer_together,
    labelled_model,
    running,
)

pytestmark = pytest.mark.triton

MAX_BATCH = 8
LABELLED = f"""
max_batch_size: {MAX_BATCH}
input [ {{ name: "x" data_type: TYPE_FP32 dims: [1, 32, 32] }}, {{ name: "label" data_type: TYPE_INT64 dims: [1] }} ]
output [ {{ name: "image" data_type: TYPE_FP32 dims: [1, 32, 32] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
dynamic_batching {{ }}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
"""
WARM = f"""
model_warmup [ {{
  name: "full" batch_size: {MAX_BATCH}
  inputs {{ key: "x" value {{ data_type: TYPE_FP32 dims: [1, 32, 32] zero_data: true }} }}
  inputs {{ key: "label" value {{ data_type: TYPE_INT64 dims: [1] zero_data: true }} }}
}} ]
"""
BUCKETS = 'parameters { key: "batch_buckets" value { string_value: "8" } }'
MODELS = ("quick", "slow", "padded", "derived", "fixed")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """quick and slow: the same kind of graph, answered in the plain way and, when full, through the pipeline."""
    folder = tmp_path_factory.mktemp("models")
    add_model(folder, "quick", labelled_model(), LABELLED)
    add_model(folder, "slow", labelled_model(channels=48), LABELLED + WARM)
    add_model(folder, "padded", labelled_model(), LABELLED + BUCKETS)
    add_model(folder, "derived", identity_model(), "")
    add_model(folder, "fixed", identity_model(2), "")
    return folder


@pytest.fixture(scope="module")
def triton(repository: Path) -> Iterator[TritonProcess]:
    with running(repository, MODELS) as process:
        assert process.failures == ()
        yield process


def feeds_of(seed: int, rows: int = 1, label: int | None = None) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, NUM_LABELS, (rows, 1)) if label is None else np.full((rows, 1), label)
    return {"x": random.normal(size=(rows, 1, 32, 32)).astype(np.float32), "label": labels.astype(np.int64)}


def bare(repository: Path, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(repository / name / "1" / "model.onnx", options)


def statistics(triton: TritonProcess, name: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{triton.ports.http}/v2/models/{name}/stats") as reply:
        return dict(json.load(reply)["model_stats"][0])


@pytest.mark.parametrize("name", ["quick", "slow", "padded"])
@pytest.mark.parametrize("rows", [1, 3, MAX_BATCH])
def test_backend_gives_what_bare_onnx_runtime_gives(
    triton: TritonProcess, repository: Path, name: str, rows: int
) -> None:
    feeds = feeds_of(rows, rows)
    with client(triton) as caller:
        image = infer(caller, name, feeds)["image"]
    assert image.dtype == np.float32
    assert np.array_equal(image, bare(repository, name).run(None, feeds)[0])


@pytest.mark.parametrize("name", ["quick", "slow", "padded"])
def test_backend_gives_each_caller_its_own_rows_when_many_ask_at_once(
    triton: TritonProcess, repository: Path, name: str
) -> None:
    calls = [feeds_of(seed, 1 + seed % 3) for seed in range(48)]
    session = bare(repository, name)
    expected = [session.run(None, feeds)[0] for feeds in calls]

    def were_merged() -> bool:
        before = statistics(triton, name)
        results = infer_together(triton, name, calls)
        for image, result in zip(expected, results, strict=True):
            assert not isinstance(result, Exception)
            assert np.array_equal(result["image"], image)
        num_rows = sum(len(feeds["x"]) for feeds in calls)
        # Triton counts a batch after it has answered; the last one may be missing among the executions yet.
        eventually(lambda: statistics(triton, name)["inference_count"] >= before["inference_count"] + num_rows)
        after = statistics(triton, name)
        assert after["inference_count"] == before["inference_count"] + num_rows
        return bool(after["execution_count"] - before["execution_count"] < len(calls) - 1)

    # Calls that come one by one, where this process is slow and Triton is quick, meet in no batch.
    assert any(were_merged() for _ in range(20))


@pytest.mark.parametrize("name", ["quick", "slow", "padded"])
def test_backend_fails_only_the_request_whose_label_is_bad(triton: TritonProcess, repository: Path, name: str) -> None:
    calls = [feeds_of(seed, label=99 if seed % 7 == 3 else None) for seed in range(48)]
    results = infer_together(triton, name, calls)
    session = bare(repository, name)
    for feeds, result in zip(calls, results, strict=True):
        if feeds["label"][0, 0] == 99:
            assert isinstance(result, kserve.InferenceServerException)
            assert result.status() == "StatusCode.INVALID_ARGUMENT"
            assert "idx=99" in result.message()
        else:
            assert not isinstance(result, Exception)
            assert np.array_equal(result["image"], session.run(None, feeds)[0])


@pytest.mark.parametrize(
    ("feeds", "problem"),
    [
        ({**feeds_of(0), "x": np.zeros((1, 1, 32, 31), np.float32)}, "unexpected shape for input 'x'"),
        ({**feeds_of(0), "x": np.zeros((1, 1, 32, 32))}, "data-type 'FP64'.*expects 'TYPE_FP32'|expects.*FP32"),
        ({"x": feeds_of(0)["x"]}, "expected 2 inputs but got 1"),
        (feeds_of(0, MAX_BATCH + 1), f"must be <= {MAX_BATCH}"),
    ],
    ids=["shape", "dtype", "missing", "batch"],
)
def test_backend_s_model_rejects_a_wrong_request_and_goes_on(
    triton: TritonProcess, feeds: dict[str, NDArray[Any]], problem: str
) -> None:
    with client(triton) as caller:
        with pytest.raises(kserve.InferenceServerException, match=problem) as caught:
            infer(caller, "quick", feeds)
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert infer(caller, "quick", feeds_of(0))["image"].shape == (1, 1, 32, 32)


def test_backend_does_not_compute_what_was_cancelled_in_the_queue(triton: TritonProcess) -> None:
    tensors = []
    for key, array in feeds_of(0, MAX_BATCH).items():
        tensors.append(kserve.InferInput(key, list(array.shape), {"x": "FP32", "label": "INT64"}[key]))
        tensors[-1].set_data_from_numpy(array)
    num_sent = computed = 0
    with client(triton) as caller:
        before = statistics(triton, "slow")["inference_count"]
        # A cancellation may be late, when this process has to wait for a core, so more wait before it each time.
        for num_calls in (30, 60, 120, 240):
            calls = [caller.async_infer("slow", tensors, callback=lambda result, error: None) for _ in range(num_calls)]
            for call in calls:
                call.cancel()
            infer(caller, "slow", feeds_of(1))  # answered after everything before it
            num_sent += num_calls * MAX_BATCH + 1
            computed = statistics(triton, "slow")["inference_count"] - before
            if computed < num_sent:
                break
    assert computed < num_sent


def test_backend_completes_a_configuration_from_the_graph(triton: TritonProcess) -> None:
    with client(triton) as caller:
        derived, fixed = (caller.get_model_config(name, as_json=True)["config"] for name in ("derived", "fixed"))
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        assert np.array_equal(infer(caller, "derived", {"x": x})["y"], x)
        assert np.array_equal(infer(caller, "fixed", {"x": x})["y"], x)
    assert (derived["max_batch_size"], derived["input"][0]["dims"], derived["input"][0]["data_type"]) == (
        4,
        ["3"],
        "TYPE_FP32",
    )
    assert "dynamic_batching" in derived
    assert "max_batch_size" not in fixed
    assert fixed["input"][0]["dims"] == fixed["output"][0]["dims"] == ["2", "3"]


def test_backend_gives_only_the_outputs_that_were_asked_for(triton: TritonProcess) -> None:
    feeds = feeds_of(0)
    with client(triton) as caller:
        wanted = [kserve.InferRequestedOutput("image")]
        assert set(infer(caller, "quick", feeds, outputs=wanted)) == {"image"}
        with pytest.raises(kserve.InferenceServerException, match="unexpected inference output 'other'"):
            infer(caller, "quick", feeds, outputs=[kserve.InferRequestedOutput("other")])


def test_backend_serves_the_exported_models_under_strict_configuration(model_repository: Path) -> None:
    names = sorted(entry.name for entry in model_repository.iterdir() if (entry / "config.pbtxt").is_file())
    with running(model_repository, names, strict_config=True) as triton:
        assert triton.failures == ()
        assert {"tiny-gan", "tiny-vae-encode", "plain-gan-decode"} <= set(names)


def test_backend_loads_an_incomplete_configuration_only_when_it_may_complete_it(repository: Path) -> None:
    with running(repository, ("quick", "derived"), strict_config=True) as triton:
        assert [failure.name for failure in triton.failures] == ["derived"]
