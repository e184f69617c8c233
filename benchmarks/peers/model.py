"""An exported sampler in bare ONNX Runtime, as the peers compute it: one session, one compute thread, whole batches."""

from __future__ import annotations

import os
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

MAX_BATCH_SIZE = 16
"""As our own export has it."""


class Model:
    """`PEER_MODEL` names the model.onnx; `PEER_THREADS` the compute threads."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("PEER_THREADS", "1"))
        options.inter_op_num_threads = 1
        path = os.environ["PEER_MODEL"]
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._has_labels = any(entry.name == "label" for entry in self._session.get_inputs())
        self.images([{"seed": 0, "truncation": 1.0, "label": 0}] * MAX_BATCH_SIZE)  # warm

    def images(self, requests: list[dict[str, Any]]) -> list[bytes]:
        """One image's raw bytes for each request of seed, truncation and label."""
        feeds: dict[str, Any] = {
            "seed": np.array([[request["seed"]] for request in requests], np.uint64),
            "truncation": np.array([[request["truncation"]] for request in requests], np.float32),
        }
        if self._has_labels:
            feeds["label"] = np.array([[request["label"]] for request in requests], np.int64)
        return [image.tobytes() for image in self._session.run(["image"], feeds)[0]]
