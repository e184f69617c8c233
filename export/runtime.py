"""ONNX Runtime as export uses it: the CPU provider, on the bytes that would be published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from export.cases import Cases

__all__ = ["Arrays", "Graph", "Runner", "feeds_of"]

Arrays = dict[str, NDArray[Any]]
"""Input name to rows."""


class Graph:
    """A graph and the bytes of its file, which depend on nothing but the graph."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.data: bytes = model.SerializeToString(deterministic=True)


class Runner:
    """A session on one graph."""

    def __init__(self, graph: Graph, *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph.data, options, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        """One batch: every output, in the graph's order. What the graph has no input for is left alone."""
        return tuple(self._session.run(None, {name: feeds[name] for name in self._inputs}))

    def run_in_batches(self, feeds: Mapping[str, NDArray[Any]], batch: int) -> tuple[NDArray[Any], ...]:
        """All of feeds, `batch` at a time, the last batch smaller: every output, in one array each."""
        num_rows = len(next(iter(feeds.values())))
        parts = [
            self.run({name: array[start : start + batch] for name, array in feeds.items()})
            for start in range(0, num_rows, batch)
        ]
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))


def feeds_of(cases: Cases, latent_shape: tuple[int, ...]) -> Arrays:
    """What any graph of the contract may ask for, for every case."""
    feeds: Arrays = {
        "seed": cases.seeds[:, None],
        "truncation": cases.truncation[:, None],
        "latent": cases.latents(latent_shape),
    }
    if cases.labels is not None:
        feeds["label"] = cases.labels[:, None]
    return feeds
