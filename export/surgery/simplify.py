"""Simplifies a network's graph without changing what it computes: each step a function, with what it removed.

fold_constants        what depends on no input, such as scaled weights (equalised learning rate), normed weights and
                      FIR kernels that are flipped, normed and repeated on every run
symmetric_padding     transposed convolutions with uneven padding, which CUDA would leave to the CPU
drop_dead             nodes, outputs and weights that nothing reads
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, helper

from export.graph.tensors import from_array, num_bytes, open_graph
from export.graph.writer import new_model
from ganvas_core.interface import Arrays
from ganvas_core.session import CpuSession

__all__ = ["Change", "drop_dead", "fold_constants", "simplify", "symmetric_padding"]

_NUM_RUNS = 7
_LARGE_BYTES = 2**24
"""Of weights, above which two sessions are not opened at once."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one step did to a graph."""

    step: str
    num_changed: int
    """Nodes removed or rewritten."""
    won_ms: float
    """Of one run of all the rows that it was measured with: the median before, less the median after."""


def simplify(network: ModelProto, feeds: Arrays, *, threads: int = 1) -> tuple[ModelProto, list[Change]]:
    """Run every step, and measure those that changed something with `feeds`."""
    changes = []
    for step in (fold_constants, symmetric_padding, drop_dead):
        simpler, num_changed = step(network)
        if not num_changed:
            continue
        won_ms = _compare_ms(network, simpler, feeds, threads=threads)
        changes.append(Change(step=step.__name__, num_changed=num_changed, won_ms=won_ms))
        network = simpler
    return network, changes


def fold_constants(network: ModelProto) -> tuple[ModelProto, int]:
    """A copy where every node that depends on no input is a weight, and how many such nodes there were."""
    known = {tensor.name for tensor in network.graph.initializer}
    folded = []
    for node in network.graph.node:
        has_subgraph = any(entry.HasField("g") or entry.graphs for entry in node.attribute)
        if not has_subgraph and all(name in known for name in node.input if name):
            folded.append(node)
            known |= set(node.output)
    if not folded:
        return network, 0
    made = {name for node in folded for name in node.output if name}
    names = {node.name for node in folded}
    rest = [node for node in network.graph.node if node.name not in names]
    read = {name for node in rest for name in node.input} | {value.name for value in network.graph.output}
    wanted = sorted(made & read)

    # Compute them with ONNX Runtime, from the weights that they need alone.
    needed = {name for node in folded for name in node.input}
    weights = [tensor for tensor in network.graph.initializer if tensor.name in needed]
    outputs = [onnx.ValueInfoProto(name=name) for name in wanted]
    part = new_model(helper.make_graph(folded, "constants", [], outputs, initializer=weights))
    session = open_graph(part).session if wanted else None

    network = copy.deepcopy(network)
    kept = [node for node in network.graph.node if node.name not in names]
    del network.graph.node[:]
    network.graph.node.extend(kept)
    for name in wanted:  # one by one, so that not all are in memory
        assert session is not None
        (array,) = session.run([name], {})
        network.graph.initializer.append(from_array(array, name))
    _drop_unread(network)
    return network, len(folded)


def symmetric_padding(network: ModelProto) -> tuple[ModelProto, int]:
    """A copy where every transposed convolution pads evenly and a Slice cuts off the rest, and how many there were."""
    uneven = []
    for node in network.graph.node:
        pads = next((list(entry.ints) for entry in node.attribute if entry.name == "pads"), [])
        if node.op_type == "ConvTranspose" and pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
            uneven.append((node.name, pads))
    if not uneven:
        return network, 0
    network = copy.deepcopy(network)
    graph = network.graph
    for name, pads in uneven:
        place, node = next((i, node) for i, node in enumerate(graph.node) if node.name == name)
        half = len(pads) // 2
        even = [min(pads[i], pads[half + i]) for i in range(half)]
        next(entry for entry in node.attribute if entry.name == "pads").ints[:] = even * 2
        # Cut what the smaller padding left: at the start, and at the end, where 0 cut is "up to the last".
        starts = [pads[i] - even[i] for i in range(half)]
        ends = [even[i] - pads[half + i] or np.iinfo(np.int64).max for i in range(half)]
        cut = {"starts": starts, "ends": ends, "axes": list(range(2, 2 + half))}
        for key, values in cut.items():
            graph.initializer.append(from_array(np.array(values, np.int64), f"{name}/{key}"))
        output = node.output[0]
        node.output[0] = f"{name}/uncut"
        inputs = [node.output[0], *(f"{name}/{key}" for key in cut)]
        graph.node.insert(place + 1, helper.make_node("Slice", inputs, [output], name=f"{name}/Slice"))
    return network, len(uneven)


def drop_dead(network: ModelProto) -> tuple[ModelProto, int]:
    """A copy without what no output depends on, and how many nodes and optional outputs that were."""
    read = {value.name for value in network.graph.output}
    alive, num_dropped = [], 0
    for node in reversed(network.graph.node):
        if not read & set(node.output):
            num_dropped += 1
            continue
        alive.append(node.name)
        read |= set(node.input)
    # Outputs at the end of a node's list that nothing reads: a dropout's mask. Split needs all of its own.
    unread = {
        node.name
        for node in network.graph.node
        if node.name in alive and len(node.output) > 1 and node.op_type != "Split" and node.output[-1] not in read
    }
    spare = [tensor.name for tensor in network.graph.initializer if tensor.name not in read]
    if not (num_dropped or unread or spare):
        return network, 0
    network = copy.deepcopy(network)
    nodes = [node for node in network.graph.node if node.name in alive]
    for node in nodes:
        while node.name in unread and len(node.output) > 1 and node.output[-1] not in read:
            del node.output[-1]
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    _drop_unread(network)
    return network, num_dropped + len(unread) + len(spare)


def _drop_unread(network: ModelProto) -> None:
    """Delete weights that nothing reads and types of values that are gone, in place."""
    graph = network.graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    there = {name for node in graph.node for name in node.output}
    described = [value for value in graph.value_info if value.name in there]
    del graph.value_info[:]
    graph.value_info.extend(described)


def _compare_ms(before: ModelProto, after: ModelProto, feeds: Arrays, *, threads: int) -> float:
    """Median milliseconds of a run before, less that after, in turn: other load on the machine meets both."""
    models = (before, after)
    times: tuple[list[float], list[float]] = ([], [])
    if sum(map(num_bytes, before.graph.initializer)) > _LARGE_BYTES:  # one copy of the weights at a time
        for model, spent in zip(models, times, strict=True):
            session = open_graph(model, threads=threads)
            spent.extend([_run_ms(session, feeds) for _ in range(_NUM_RUNS)])
            del session
    else:
        sessions = [open_graph(model, threads=threads) for model in models]
        for _ in range(_NUM_RUNS):
            for session, spent in zip(sessions, times, strict=True):
                spent.append(_run_ms(session, feeds))
    return float(np.median(times[0]) - np.median(times[1]))


def _run_ms(session: CpuSession, feeds: Arrays) -> float:
    start = time.perf_counter()
    session.run(feeds)
    return (time.perf_counter() - start) * 1000
