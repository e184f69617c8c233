"""mosec, as its documentation has it: a worker with dynamic batching, whose reply is bytes.

    PEER_MODEL=…/model.onnx python benchmarks/peers/mosec_server.py --port 8100

answers POST /inference.
"""

from __future__ import annotations

from typing import Any

from model import MAX_BATCH_SIZE, Model
from mosec import Server, Worker

MAX_WAIT_MS = 2


class Sampler(Worker):
    """JSON in (mosec's default), bytes out."""

    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        super().__init__()
        self._model = Model()

    def forward(self, data: list[dict[str, Any]]) -> list[bytes]:
        return self._model.images(data)

    def serialize(self, data: bytes) -> bytes:
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(Sampler, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=MAX_WAIT_MS)
    server.run()
