"""ONNX Runtime on the CPU: the reference that export proves a graph with and verify checks it with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganvas_core import telemetry  # noqa: F401  before ONNX Runtime is imported

# isort: split
import numpy as np
import onnxruntime
from numpy.typing import NDArray

__all__ = ["CpuSession", "SessionError"]


class SessionError(Exception):
    """ONNX Runtime cannot load or run a graph."""


class CpuSession:
    """One graph on the CPU provider.

    Args:
        model: an ONNX file, or its bytes.
        threads: compute threads.
        pinned_batch: run batches of this size alone, smaller ones filled up with their last row as serving does.
        weights: the folder that holds the external data of a graph given by its bytes.
    Raises:
        SessionError: names the file and ONNX Runtime's reason.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        threads: int = 1,
        pinned_batch: int | None = None,
        weights: Path | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if weights is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
        source = str(model) if isinstance(model, Path) else model
        try:
            self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has an exception type per status, with no base class of their own
            name = model if isinstance(model, Path) else "the graph"
            raise SessionError(f"ONNX Runtime cannot load {name}: {error}") from None
        self.pinned_batch = pinned_batch
        self.input_names = [entry.name for entry in self.session.get_inputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Every output, in the graph's order. Feeds that the graph has no input for are ignored.

        Raises:
            SessionError: names the batch size and ONNX Runtime's reason.
        """
        taken = {name: feeds[name] for name in self.input_names}
        num_rows = len(next(iter(taken.values()), ()))
        missing = max(self.pinned_batch - num_rows, 0) if self.pinned_batch else 0
        if missing:
            taken = {name: np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) for name, rows in taken.items()}
        try:
            outputs: list[NDArray[Any]] = self.session.run(None, taken)
        except Exception as error:  # as above
            raise SessionError(
                f"ONNX Runtime cannot run the graph in a batch of {num_rows + missing}: {error}"
            ) from None
        return [output[:num_rows] for output in outputs] if missing else outputs

    def run_in_batches(self, feeds: Mapping[str, NDArray[Any]], batch_size: int) -> list[NDArray[Any]]:
        """Every output of all rows, `batch_size` rows at a time, the last batch smaller."""
        taken = {name: feeds[name] for name in self.input_names}
        num_rows = len(next(iter(taken.values())))
        parts = [
            self.run({name: array[start : start + batch_size] for name, array in taken.items()})
            for start in range(0, num_rows, batch_size)
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
