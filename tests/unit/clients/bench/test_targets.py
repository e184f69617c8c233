"""Targets that are no Ganvas: a peer by HTTP, and servers with requests of their own."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from clients.bench.perf_analyzer import input_data
from clients.bench.targets import CallFailedError, GoldenRow, Target, TargetError, WrongAnswerError, connect
from clients.bench.targets.requests import CHECK_EVERY, NUM_DISTINCT, make_requests
from ganvas.v1 import sampler_pb2
from ganvas_core.cli import UsageError

GOLDEN = (
    GoldenRow(seed=2**63 + 1, truncation=0.5, label=2, sha256=hashlib.sha256(b"two").hexdigest()),
    GoldenRow(seed=5, truncation=1.0, label=0, sha256=hashlib.sha256(b"zero").hexdigest()),
)
ANSWERS = {2**63 + 1: b"two", 5: b"zero"}


def answer_of(seed: int) -> bytes:
    return ANSWERS.get(seed, b"another")


def with_peer(
    answer: Callable[[int], bytes], work: Callable[[str], Any], *, status: str = "200 OK", close: bool = False
) -> Any:
    """Run `work` on the URL of an HTTP peer that gives `answer(seed)`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = answer(json.loads(await reader.readexactly(length))["seed"])
                kept = "close" if close else "keep-alive"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: {kept}\r\n\r\n".encode())
                writer.write(body)
                if close:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async def run() -> Any:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            try:
                return await work(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/infer")
            finally:
                await asyncio.sleep(0.05)  # until the peer has seen that the connections are closed

    return asyncio.run(run())


def http_target(url: str) -> Target:
    return Target(kind="http", model="tiny", address=url, num_labels=4, golden=GOLDEN, wait_s=0.3)


@pytest.mark.parametrize("close", [False, True])
def test_peer_is_verified_and_called_over_kept_or_closed_connections(close: bool) -> None:
    async def work(url: str) -> int:
        connection = await connect(http_target(url))
        for _ in range(2 * CHECK_EVERY):
            connection.check(await connection.call(5.0))
        await asyncio.gather(*(connection.call(5.0) for _ in range(20)))
        await connection.close()
        return connection.num_checked

    assert with_peer(answer_of, work, close=close) == 2


def test_peer_that_answers_wrongly_is_refused() -> None:
    async def work(url: str) -> None:
        await connect(http_target(url))

    with pytest.raises(WrongAnswerError, match="The speed of wrong answers is not reported"):
        with_peer(lambda seed: b"wrong", work)


@pytest.mark.parametrize(
    ("status", "name"), [("503 Service Unavailable", "RESOURCE_EXHAUSTED"), ("500 Internal Server Error", "HTTP 500")]
)
def test_errors_of_a_peer_are_told(status: str, name: str) -> None:
    async def call(url: str) -> str:
        connection = await connect(http_target(url), verify=False)
        with pytest.raises(CallFailedError) as failed:
            await connection.call(5.0)
        await connection.close()
        return failed.value.status

    assert with_peer(answer_of, call, status=status) == name

    async def verify(url: str) -> None:
        await connect(http_target(url))

    with pytest.raises(TargetError, match=f"answers {name}"):
        with_peer(answer_of, verify, status=status)


def test_nobody_at_a_url_is_told() -> None:
    with pytest.raises(TargetError, match=r"nobody answers at http://127.0.0.1:1/ within 0.3 s"):
        asyncio.run(connect(http_target("http://127.0.0.1:1/")))


def test_one_request_in_eight_begins_with_a_golden_image() -> None:
    service = Target(kind="service", model="tiny", batch_size=3, num_labels=4, golden=GOLDEN)
    requests = make_requests(service)
    assert len(requests) == NUM_DISTINCT
    assert [request.checked for request in requests[: CHECK_EVERY + 1]] == [True, *[False] * 7, True]
    first, second = (sampler_pb2.SampleRequest.FromString(requests[i].body) for i in (0, CHECK_EVERY))
    assert (first.seeds[0], first.truncation, first.labels[0]) == (2**63 + 1, 0.5, 2)
    assert (second.seeds[0], second.truncation, second.labels[0]) == (5, 1.0, 0)
    assert [request.expected for request in requests[:2]] == [GOLDEN[0].sha256, None]
    direct = make_requests(Target(kind="kserve", model="tiny", golden=GOLDEN[:1]))[0]
    assert {tensor.name for tensor in service_pb2.ModelInferRequest.FromString(direct.body).inputs} == {
        "seed",
        "truncation",
    }


def test_requests_of_a_file_have_its_answers(tmp_path: Path) -> None:
    file = tmp_path / "requests.json"
    data = input_data(Target(kind="kserve", model="any", num_labels=3), num_rows=2)
    image = {"image": {"content": [1, 2, 3], "shape": [1, 1, 3], "datatype": "UINT8"}}
    file.write_text(json.dumps(data | {"validation_data": [image, image]}))
    target = Target(kind="kserve", model="any", batch_size=2, input_data=str(file))
    requests = make_requests(target)
    assert [request.expected for request in requests] == [hashlib.sha256(bytes([1, 2, 3])).hexdigest()] * 2
    message = service_pb2.ModelInferRequest.FromString(requests[1].body)
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in message.inputs] == [
        ("seed", "UINT64", [2, 1]),
        ("truncation", "FP32", [2, 1]),
        ("label", "INT64", [2, 1]),
    ]
    assert message.raw_input_contents[0] == (1).to_bytes(8, "little") * 2


@pytest.mark.parametrize("text", ["{", '{"data": []}', '{"data": [{"x": {"content": [1]}}]}', "[]"])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "requests.json").write_text(text)
    with pytest.raises(UsageError, match=r"--input-data .*requests.json"):
        make_requests(Target(kind="kserve", model="any", input_data=str(tmp_path / "requests.json")))
