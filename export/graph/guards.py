"""What a graph must not hold, whatever its images: each refused with the node and the reason.

The table of operators with a CUDA kernel is cuda_kernels.json, which names its source.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from export.errors import GateError
from export.graph.tensors import num_bytes, to_array
from export.graph.writer import BATCH

__all__ = ["check_external_data", "check_guards", "check_on_gpu", "lacks_half_kernel"]

_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_MEMCPY = {"MemcpyFromHost", "MemcpyToHost"}
_PROVIDER = "CUDAExecutionProvider"
_DEVICE = Path("/dev/nvidia0")


_TYPE_INPUT = {"OneHot": 2, "Where": 1}
"""The input that gives an operator its type, where that is not the first."""
_ONNX_NAMES = {TensorProto.BFLOAT16: "bfloat16", TensorProto.FLOAT: "float", TensorProto.FLOAT16: "float16"} | {
    TensorProto.DataType.Value(name.upper()): name
    for name in ("bool", "double", "int8", "int16", "int32", "int64", "string", "uint8", "uint16", "uint32", "uint64")
}


def _read_table() -> tuple[dict[str, frozenset[str]], frozenset[str]]:
    """Operator to the types that its CUDA kernel takes, and the operators that others make up."""
    table = json.loads((Path(__file__).parent / "cuda_kernels.json").read_text(encoding="utf-8"))
    kernels = {name: frozenset(row.split(": ")[1].split()) for name, row in table["operators"].items()}
    return kernels, frozenset((*table["made_of_others"], "Constant"))


_CUDA_KERNELS, _MADE_OF_OTHERS = _read_table()


def lacks_half_kernel(op_type: str) -> bool:
    """Whether CUDA computes an operator in float32 and not in fp16."""
    types = _CUDA_KERNELS.get(op_type, frozenset())
    return "float" in types and "float16" not in types


def check_guards(model: ModelProto) -> None:
    """Refuse random operators, those in training mode, copies between devices, operators that CUDA lacks, and a frozen
    batch dimension.

    Raises:
        GateError: names the node and the reason.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        name = f"{node.op_type} node {node.name}"
        if node.op_type in _RANDOM:
            raise GateError(
                f"the graph must not have a {name}: its noise is not the seed's, since no such operator has an input "
                "for one. Take the noise from the latent."
            )
        if node.op_type in _MEMCPY:
            raise GateError(f"the graph must not have a {name}: it copies between CPU and GPU on every run.")
        if _trains(node, constants):
            raise GateError(
                f"the graph must not have a {name} in training mode: its output depends on the batch or on chance. "
                "Call .eval(), and pass training=False to functional.dropout and batch_norm."
            )
        if node.op_type not in _CUDA_KERNELS.keys() | _MADE_OF_OTHERS and node.domain in ("", "ai.onnx"):
            raise GateError(
                f"the graph must not have a {name}: ONNX Runtime has no CUDA kernel for {node.op_type} at this opset, "
                "and would run it on the CPU without a word. Write it with other operations."
            )
    inferred = onnx.shape_inference.infer_shapes(model).graph
    _check_types(model, inferred)
    _check_batch(model, constants, inferred)


def check_external_data(model: ModelProto, folder: Path) -> None:
    """Refuse a graph whose external data is not in `folder`.

    Raises:
        GateError: names the tensor and the file.
    """
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if Path(location).name != location:
            raise GateError(
                f"the external data of {tensor.name} lies in another folder, {location}, where no runtime looks. "
                "Name a file beside the graph."
            )
        if not location or not (folder / location).is_file():
            raise GateError(
                f"the external data of {tensor.name} is missing: there is no file {location or '(no name)'} beside the "
                "graph. Copy it there, or export again."
            )
        end, size = int(entries.get("offset", 0)) + num_bytes(tensor), (folder / location).stat().st_size
        if end > size:
            raise GateError(
                f"the external data of {tensor.name} is missing: {location} has {size} bytes, and it would end at "
                f"{end}. Copy the whole file there, or export again."
            )


def check_on_gpu(graph: Path | bytes) -> bool:
    """On a machine with a GPU: refuse a graph of which one node would run on the CPU. Gives whether there is a GPU.

    Args:
        graph: an ONNX file, or its bytes.

    Raises:
        GateError: ONNX Runtime's reason, which names the node.
    """
    if _PROVIDER not in onnxruntime.get_available_providers() or not _DEVICE.exists():
        return False
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        onnxruntime.InferenceSession(str(graph) if isinstance(graph, Path) else graph, options, providers=[_PROVIDER])
    except Exception as error:  # an exception type for each status, without a base class of their own
        raise GateError(f"the graph does not run on the GPU alone: {' '.join(str(error).split())[:300]}") from None
    return True


def _trains(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    if node.op_type == "BatchNormalization":
        return any(entry.name == "training_mode" and entry.i for entry in node.attribute)
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        mode = constants.get(node.input[2])
        return mode is None or bool(to_array(mode))
    return False


def _check_types(model: ModelProto, inferred: GraphProto) -> None:
    """Refuse the first node whose type no CUDA kernel of the operator takes.

    Raises:
        GateError: names the node and the type.
    """
    types = {tensor.name: int(tensor.data_type) for tensor in model.graph.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        types[value.name] = int(value.type.tensor_type.elem_type)
    for node in model.graph.node:
        index = _TYPE_INPUT.get(node.op_type, 0)
        if node.op_type not in _CUDA_KERNELS or len(node.input) <= index:
            continue
        found = _ONNX_NAMES.get(types.get(node.input[index], 0))
        if found is not None and found not in _CUDA_KERNELS[node.op_type]:
            raise GateError(
                f"the graph must not have a {node.op_type} node {node.name} of {found}: ONNX Runtime's CUDA kernel "
                f"takes {', '.join(sorted(_CUDA_KERNELS[node.op_type]))} alone, and would leave the node to the CPU. "
                "Cast its input."
            )


def _check_batch(model: ModelProto, constants: dict[str, TensorProto], inferred: GraphProto) -> None:
    """Refuse the first node that takes the symbolic batch and gives a fixed one.

    Raises:
        GateError: names the node.
    """
    first_dim = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if dims:
            first_dim[value.name] = dims[0].dim_param or dims[0].dim_value
    for value in model.graph.input:
        if first_dim.get(value.name) != BATCH:
            raise GateError(f"the batch dimension of the input {value.name} is frozen to {first_dim.get(value.name)}.")
    for node in model.graph.node:
        if node.op_type not in ("Expand", "Reshape") or len(node.input) < 2:
            continue
        shape = constants.get(node.input[1])
        if shape is None or first_dim.get(node.input[0]) != BATCH:
            continue
        sizes = np.atleast_1d(to_array(shape)).tolist()
        if sizes and sizes[0] > 1:
            raise GateError(
                f"the {node.op_type} node {node.name} freezes the batch dimension to {sizes[0]}: its shape is the "
                f"constant {sizes}. Write -1 or x.size(0) in its place."
            )
    for value in model.graph.output:
        if first_dim.get(value.name) != BATCH:
            raise GateError(f"the batch dimension of the output {value.name} is frozen to {first_dim.get(value.name)}.")
