"""A trial of Triton: start it with a model of one node, run it once, stop it."""

from __future__ import annotations

import json
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from serving.triton.errors import TritonStartError
from serving.triton.install import TritonInstall
from serving.triton.process import TritonOptions, TritonProcess

__all__ = ["IDENTITY", "Trial", "try_triton"]

TIMEOUT_S = 60.0
VALUES = [0.25, 0.5, 0.75]

IDENTITY = (
    b'\x08\x08:E\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x14\n\x01x\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01N\n'
    b"\x02\x08\x01b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01N\n\x02\x08\x01B\x04\n\x00\x10\x12"
)
"""An ONNX model, opset 18: y = x, both FP32 [N, 1]. Serving has no onnx to make one with."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A Triton that worked."""

    version: str
    seconds: float
    """From its start to its first answer."""


def try_triton(install: TritonInstall) -> Trial:
    """Start this Triton on free ports, load a model, run it, stop.

    Raises:
        TritonError: what did not work.
    """
    with tempfile.TemporaryDirectory(prefix="ganvas-trial-") as name:
        repository = Path(name)
        (repository / "trial" / "1").mkdir(parents=True)
        (repository / "trial" / "1" / "model.onnx").write_bytes(IDENTITY)
        (repository / "trial" / "config.pbtxt").write_text('backend: "onnxruntime"\n', encoding="utf-8")
        options = TritonOptions(repository=repository, models=("trial",), grpc_port=0, http_port=0, metrics_port=0)
        start = time.monotonic()
        with TritonProcess(options, install) as triton:
            for failure in triton.wait_ready(TIMEOUT_S):
                raise TritonStartError(f"a model of one node does not load: {failure.reason}")
            _ask(triton.ports.http)
            return Trial(version=triton.version(), seconds=time.monotonic() - start)


def _ask(port: int) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(VALUES), 1], "data": VALUES}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/trial/infer", json.dumps({"inputs": [tensor]}).encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        raise TritonStartError(
            f"a model of one node does not answer: {error.read().decode(errors='replace')}"
        ) from None
    except (OSError, ValueError) as error:
        raise TritonStartError(f"a model of one node does not answer: {error}") from None
    if answer["outputs"][0]["data"] != VALUES:
        raise TritonStartError(f"a model of one node gave {answer['outputs'][0]['data']} for {VALUES}.")
