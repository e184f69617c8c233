"""Small ONNX models in a Triton model repository, a Triton that serves them, and calls to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tritonclient.grpc as kserve
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serving.triton.process import TritonOptions, TritonProcess

READY_S = 120.0
NUM_LABELS = 4


def labelled_model(*, channels: int = 1) -> onnx.ModelProto:
    """image = conv(x) + label: x FP32 [N,1,32,32] and label INT64 [N,1] give FP32 [N,1,32,32].

    A label outside [0, NUM_LABELS) fails the whole run.

    Args:
        channels: of the hidden layers; 64 take some milliseconds a row on one core.
    """
    random = np.random.default_rng(0)
    widths = [1, channels, channels, channels, 1]
    weights = [
        numpy_helper.from_array(random.normal(0, 0.1, (out, into, 3, 3)).astype(np.float32), f"w{i}")
        for i, (into, out) in enumerate(pairwise(widths))
    ]
    nodes = [
        helper.make_node("Conv", [f"x{i}" if i else "x", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(len(weights))
    ]
    values = numpy_helper.from_array(np.arange(NUM_LABELS, dtype=np.float32).reshape(-1, 1, 1), "values")
    nodes.append(helper.make_node("Gather", ["values", "label"], ["offset"]))
    nodes.append(helper.make_node("Add", [f"x{len(weights)}", "offset"], ["image"]))
    return model(
        nodes,
        {"x": (TensorProto.FLOAT, ["N", 1, 32, 32]), "label": (TensorProto.INT64, ["N", 1])},
        {"image": (TensorProto.FLOAT, ["N", 1, 32, 32])},
        [*weights, values],
    )


def identity_model(batch: str | int = "N") -> onnx.ModelProto:
    """y = x, both FP32 [batch, 3]."""
    shape = {"x": (TensorProto.FLOAT, [batch, 3])}
    return model([helper.make_node("Identity", ["x"], ["y"])], shape, {"y": shape["x"]})


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, tuple[int, list[Any]]],
    initializers: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A checked ONNX model, opset 18. Inputs and outputs: name to element type and shape."""
    taken, given = (
        [helper.make_tensor_value_info(name, *value) for name, value in side.items()] for side in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "test", taken, given, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def add_model(
    repository: Path, name: str, made: onnx.ModelProto | bytes | None, config: str, *, version: int = 1
) -> None:
    """Write one version of a model. `made`: None writes no file. `config`: config.pbtxt after the backend."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text('backend: "onnxruntime"\n' + config)
    if made is not None:
        (folder / "model.onnx").write_bytes(made if isinstance(made, bytes) else made.SerializeToString())


@contextmanager
def running(repository: Path, models: Sequence[str], **options: Any) -> Iterator[TritonProcess]:
    """A Triton on free ports, every model tried."""
    ports = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    with TritonProcess(TritonOptions(repository=repository, models=models, **{**ports, **options})) as triton:
        triton.wait_ready(READY_S)
        yield triton


def client(triton: TritonProcess) -> kserve.InferenceServerClient:
    return kserve.InferenceServerClient(f"127.0.0.1:{triton.ports.grpc}")


def infer(
    caller: kserve.InferenceServerClient, name: str, feeds: Mapping[str, NDArray[Any]], **arguments: Any
) -> dict[str, NDArray[Any]]:
    """Every output of one call."""
    inputs = []
    for key, array in feeds.items():
        tensor = kserve.InferInput(key, list(array.shape), kserve_type(array))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    result = caller.infer(name, inputs, **arguments)
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def infer_together(
    triton: TritonProcess, name: str, calls: Sequence[Mapping[str, NDArray[Any]]]
) -> list[dict[str, NDArray[Any]] | Exception]:
    """All calls at the same time, so that Triton batches them; each one's outputs or error."""

    def call(feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]] | Exception:
        try:
            return infer(caller, name, feeds)
        except kserve.InferenceServerException as error:
            failure: Exception = error
            return failure

    with client(triton) as caller, ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(call, calls))


def kserve_type(array: NDArray[Any]) -> str:
    names = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "uint64": "UINT64", "uint8": "UINT8"}
    return names[array.dtype.name]
