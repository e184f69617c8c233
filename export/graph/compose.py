"""Joins noise, network and image conversion into the graphs of the contract.

sampler = noise → network → postprocess
decode  =         network → postprocess, with truncation 1
encode  = preprocess → encoder
"""

from __future__ import annotations

import tempfile

import onnx
from onnx import GraphProto, ModelProto, compose

from export.errors import GateError
from export.graph.guards import check_guards
from export.graph.tensors import with_relative_places
from export.graph.writer import BATCH, OPSET, new_model, onnx_type
from ganvas_core.interface import Interface

__all__ = ["NOISE_OPS", "check_graph", "join"]

NOISE_OPS = {"Mul", "Add", "Div", "Sub", "Cast", "Gather", "Reshape"}
"""All there may be in the noise: each has a CUDA kernel, the arithmetic for uint64, and none reads a shape."""


def join(first: ModelProto, second: ModelProto, *, edge: str) -> ModelProto:
    """The graph first → second, joined where an output of one has the name `edge` of an input of the other.

    An input that both have, such as the label, is one input of the joined graph. The inner names of a network, which
    are torch's choice, are kept apart from the contract's by a prefix.
    """
    shared = {value.name for value in first.graph.input} & {value.name for value in second.graph.input}
    before = _renamed(_prefixed(first), {name: f"first/{name}" for name in shared})
    own_names = {f"first/{name}": name for name in shared}
    # Not merge_models, which would look for the weights' files in the working directory.
    joined = compose.merge_graphs(before, _prefixed(second), io_map=[(edge, edge)], name="ganvas")
    for node in joined.node:
        node.input[:] = [own_names.get(name, name) for name in node.input]
    wanted = [value for value in joined.input if value.name not in own_names]
    del joined.input[:]
    joined.input.extend(wanted)
    return new_model(joined)


def check_graph(model: ModelProto, interface: Interface) -> None:
    """Check a joined graph against the sampler contract.

    Raises:
        GateError: names what differs.
    """
    try:
        _check_onnx(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GateError(f"the graph is not valid ONNX: {' '.join(str(error).split())}") from None
    opsets = {(entry.domain, entry.version) for entry in model.opset_import}
    if opsets != {("", OPSET)}:
        raise GateError(f"the graph must use opset {OPSET} of ai.onnx alone; got {sorted(opsets)}.")
    for kind, values, tensors in (
        ("inputs", model.graph.input, interface.inputs),
        ("outputs", model.graph.output, interface.outputs),
    ):
        found = []
        for value in values:
            dims = tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
            found.append((value.name, value.type.tensor_type.elem_type, dims))
        expected = [(tensor.name, onnx_type(tensor), (BATCH, *tensor.dims)) for tensor in tensors]
        if found != expected:
            raise GateError(f"the graph's {kind} must be {expected}; got {found}.")
    check_guards(model)
    for node in model.graph.node:
        if node.name.startswith("noise/") and node.op_type not in NOISE_OPS:
            raise GateError(f"the noise must be made of {', '.join(sorted(NOISE_OPS))}; got {node.name}.")


def _prefixed(model: ModelProto) -> GraphProto:
    if model.graph.name != "network":
        return model.graph
    return compose.add_prefix_graph(
        model.graph, "network/", rename_nodes=False, rename_inputs=False, rename_outputs=False
    )


def _renamed(graph: GraphProto, names: dict[str, str]) -> GraphProto:
    """The graph with other names for some of its inputs."""
    if not names:
        return graph
    renamed = GraphProto()
    renamed.CopyFrom(graph)
    for value in renamed.input:
        value.name = names.get(value.name, value.name)
    for node in renamed.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    return renamed


def _check_onnx(model: ModelProto) -> None:
    """ONNX's own checker, which wants a graph with files beside them."""
    relative, folder = with_relative_places(model)
    if folder is None:
        onnx.checker.check_model(model, full_check=True)
        return
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".onnx") as file:
        file.write(relative.SerializeToString())
        file.flush()
        onnx.checker.check_model(file.name, full_check=True)
