"""LitServe, as its documentation has it: a LitAPI with batching, whose reply is bytes.

    PEER_MODEL=…/model.onnx python benchmarks/peers/litserve_server.py 8100

answers POST /predict.
"""

import sys
from typing import Any

import litserve
from fastapi import Response
from model import MAX_BATCH_SIZE, Model

BATCH_TIMEOUT_S = 0.002


class Sampler(litserve.LitAPI):
    """JSON in, bytes out."""

    def setup(self, device: str) -> None:
        self._model = Model()

    def decode_request(self, request):  # LitServe takes an annotation for a schema
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return list(inputs)

    def predict(self, batch: list[dict[str, Any]]) -> list[bytes]:
        return self._model.images(batch)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output):
        return Response(content=output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = Sampler(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, num_api_servers=1)
