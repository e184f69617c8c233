"""Targets that are no Ganvas: a peer by HTTP, and servers with requests of their own."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from tritonclient.grpc import service_pb2

from clients.bench.perf_analyzer import input_data
from clients.bench.targets import (
    CallFailedError,
    Connection,
    GoldenRow,
    Request,
    Target,
    TargetError,
    WrongAnswerError,
    connect,
)
from clients.bench.targets.grpc_transport import GrpcTransport
from clients.bench.targets.requests import CHECK_EVERY, NUM_DISTINCT, make_requests
from clients.bench.targets.transport import Transport
from ganvas.v1 import sampler_pb2
from ganvas_core.cli import UsageError
from ganvas_core.tls_options import TlsOptions
from ganvas_core.work import WORK
from tests.support.tls import make_certificates

GOLDEN = (
    GoldenRow(seed=2**63 + 1, truncation=0.5, label=2, sha256=hashlib.sha256(b"two").hexdigest()),
    GoldenRow(seed=5, truncation=1.0, label=0, sha256=hashlib.sha256(b"zero").hexdigest()),
)
ANSWERS = {2**63 + 1: b"two", 5: b"zero"}
CALL_S = 60.0


def answer_of(seed: int) -> bytes:
    return ANSWERS.get(seed, b"another")


def with_peer(
    answer: Callable[[int], bytes],
    work: Callable[[str], Any],
    *,
    status: str = "200 OK",
    close: bool = False,
    heads: list[bytes] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Any:
    """Run `work` on the URL of an HTTP peer that gives `answer(seed)`; `heads` gets those of the requests."""

    handlers: set[asyncio.Task[Any] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if heads is not None:
                    heads.append(head)
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = answer(json.loads(await reader.readexactly(length))["seed"])
                kept = "close" if close else "keep-alive"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: {kept}\r\n\r\n".encode())
                writer.write(body)
                if close:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def run() -> Any:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        async with server:
            try:
                return await work(f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/infer")
            finally:
                await asyncio.sleep(0.05)  # for connections that it has not heard of yet
                if waiting := {task for task in handlers if task is not None}:
                    await asyncio.wait(waiting, timeout=CALL_S)  # until it has seen that they are closed

    return asyncio.run(run())


def http_target(url: str) -> Target:
    return Target(kind="http", model="tiny", address=url, num_labels=4, golden=GOLDEN, wait_s=0.3)


@pytest.mark.parametrize("close", [False, True])
def test_peer_is_verified_and_called_over_kept_or_closed_connections(close: bool) -> None:
    async def work(url: str) -> int:
        connection = await connect(http_target(url))
        for _ in range(2 * CHECK_EVERY):
            connection.check(await connection.call(CALL_S))
        await asyncio.gather(*(connection.call(CALL_S) for _ in range(20)))
        await connection.close()
        return connection.num_checked

    assert with_peer(answer_of, work, close=close) == 2


def test_the_query_of_a_url_is_sent() -> None:
    heads: list[bytes] = []

    async def verify(url: str) -> None:
        await (await connect(http_target(f"{url}?quality=9&raw"))).close()

    with_peer(answer_of, verify, heads=heads)
    assert heads[0].startswith(b"POST /infer?quality=9&raw HTTP/1.1\r\n")


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
            await connection.call(CALL_S)
        await connection.close()
        return failed.value.status

    assert with_peer(answer_of, call, status=status) == name

    async def verify(url: str) -> None:
        await connect(http_target(url))

    with pytest.raises(TargetError, match=f"answers {name}"):
        with_peer(answer_of, verify, status=status)


def test_a_peer_by_https_is_one_that_is_trusted(tmp_path: Path) -> None:
    of = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(of / "server.pem", of / "server.key")

    async def call(url: str) -> int:
        target = dataclasses.replace(http_target(url), tls=TlsOptions(tls_ca=of / "ca.pem"))
        connection = await connect(target)
        connection.check(await connection.call(CALL_S))
        await connection.close()
        with pytest.raises(TargetError, match=r"^https://.*: TLS failed: CERTIFICATE_VERIFY_FAILED. --tls-ca names"):
            await connect(http_target(url))
        with pytest.raises(TargetError, match=r"answers UNAVAILABLE|nobody answers"):
            await connect(http_target(url.replace("https", "http")))
        return connection.num_checked

    assert with_peer(answer_of, call, tls=context) == 1


def test_nobody_at_a_url_is_told() -> None:
    for url in ("http://127.0.0.1:1/", "http://no..name/"):
        with pytest.raises(TargetError, match=rf"nobody answers at {url} within 0.3 s"):
            asyncio.run(connect(http_target(url)))


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


def test_text_is_sent_as_kserve_carries_it(tmp_path: Path) -> None:
    tensor = {"content": ["ä", "bc"], "shape": [2], "datatype": "BYTES"}
    (tmp_path / "requests.json").write_text(json.dumps({"data": [{"text": tensor}]}))
    (request,) = make_requests(Target(kind="kserve", model="any", input_data=str(tmp_path / "requests.json")))
    message = service_pb2.ModelInferRequest.FromString(request.body)
    assert message.raw_input_contents[0] == b"\x02\x00\x00\x00\xc3\xa4\x02\x00\x00\x00bc"


def test_a_peer_gets_the_key_and_one_that_refuses_it_names_the_variable() -> None:
    heads: list[bytes] = []

    async def verify(url: str) -> None:
        await connect(dataclasses.replace(http_target(url), metadata=(("authorization", "Bearer k"),)))

    with pytest.raises(TargetError, match=r"answers HTTP 401: not you\. Set GANVAS_API_KEY to a key that this server"):
        with_peer(lambda seed: b"not you.", verify, status="401 Unauthorized", heads=heads)
    assert b"\r\nauthorization: Bearer k\r\n" in heads[0]


def test_a_quota_that_is_used_up_is_waited_for() -> None:
    refusals = iter([CallFailedError("RESOURCE_EXHAUSTED", "later", retry_s=0.01)] * 2)

    class Quota(Transport):
        async def open(self) -> None:
            """Nothing to do."""

        async def call(self, body: Any, timeout_s: float) -> Any:
            for refusal in refusals:
                raise refusal
            return b"two"

        def first_image(self, reply: Any) -> bytes:
            return b"two"

    request = Request(body=b"", checked=True, expected=GOLDEN[0].sha256)
    target = dataclasses.replace(http_target("http://x/"), wait_s=CALL_S)
    connection = Connection(target=target, transport=Quota(), requests=[request])
    asyncio.run(connection.verify())
    assert next(refusals, None) is None


@pytest.mark.parametrize(("kind", "said"), [("service", {"me": "here", WORK: "m/8"}), ("kserve", {"me": "here"})])
def test_calls_on_the_service_say_what_they_ask_for_as_our_client_does(
    kind: Literal["service", "kserve"], said: dict[str, str]
) -> None:
    target = Target(kind=kind, address="127.0.0.1:1", model="m", batch_size=8, metadata=(("me", "here"),))

    async def metadata() -> Any:
        return GrpcTransport(target).metadata

    assert dict(asyncio.run(metadata())) == said
