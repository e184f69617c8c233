"""What the service has just refused, the gateway refuses without asking again: whom, what, for how long."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest

from ganvas.v1 import sampler_pb2 as pb
from ganvas.v1 import sampler_pb2_grpc
from ganvas_core.work import WORK
from serving.gateway.process import GatewayProcess
from serving.gateway.settings import GatewaySettings
from serving.keys.store import add_key
from tests.support.gateway import READY_S, bearer, channel, eventually, outcome, sampler, trailer
from tests.support.patience import TooSlowError, in_time

HINT_MS = 300
BINDING_MS = 100
ASK_MS = 80
"""After which one call asks anew."""
WORDS = "busy: the work would wait 1.2 s, 100 % too long for the call's deadline. Retry in {} ms."
LIKE = ("gan/8", 2.0)
"""What the refused call says, and its deadline in seconds."""


class Service(sampler_pb2_grpc.SamplerServicer):
    """Refuses every call."""

    asked: ClassVar[int] = 0
    binding_ms: ClassVar[int | None] = BINDING_MS
    hint_ms: ClassVar[int] = HINT_MS

    def Sample(self, request: Any, context: Any) -> Any:
        Service.asked += 1
        binding = [] if Service.binding_ms is None else [("x-ganvas-binding-ms", str(Service.binding_ms))]
        context.set_trailing_metadata([("grpc-retry-pushback-ms", str(Service.hint_ms)), *binding])
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, WORDS.format(Service.hint_ms))

    def Decode(self, request: Any, context: Any) -> Any:
        self.Sample(request, context)

    def SampleStream(self, request: Any, context: Any) -> Any:
        self.Sample(request, context)
        yield


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """Its address."""
    server = grpc.server(ThreadPoolExecutor(4))
    sampler_pb2_grpc.add_SamplerServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def started(service: list[str], folder: Path, *, keys_file: Path | None = None, **settings: Any) -> GatewayProcess:
    nobody = ["127.0.0.1:1"]
    wanted = GatewaySettings(port=0, service=service, triton_grpc=nobody, triton_http=nobody, **settings)
    made = GatewayProcess(wanted, folder, keys_file=keys_file)
    made.start()
    made.wait_ready(READY_S)
    return made


@pytest.fixture(scope="module")
def gateway(service: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    made = started([service], folder / "run", workers=1, log_dir=folder)
    yield made
    made.stop(0)


@pytest.fixture
def opened(gateway: GatewayProcess) -> Iterator[grpc.Channel]:
    """To a gateway before a service whose refusals bind."""
    Service.binding_ms, Service.hint_ms = BINDING_MS, HINT_MS
    with channel(gateway.port) as made:
        grpc.channel_ready_future(made).result(READY_S)
        yield made


def refused(
    opened: grpc.Channel, work: str | None, timeout_s: float | None, metadata: Any = (), method: Any = None
) -> Any:
    """The failure of one call."""
    says = [] if work is None else [(WORK, work)]
    call = method or sampler(opened).Sample
    failure = outcome(lambda: call(pb.SampleRequest(), timeout=timeout_s, metadata=[*says, *metadata]))
    if failure is not None and failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise TooSlowError
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return failure


def asked_by(*calls: Callable[[], Any]) -> int:
    """How many of some calls got to the service, all of them made before what the first had learnt is asked anew."""

    def ask_all() -> int:
        time.sleep(BINDING_MS / 1e3)
        asked, begun_s = Service.asked, time.monotonic()
        for call in calls:
            call()
        if time.monotonic() - begun_s >= ASK_MS / 1e3:
            raise TooSlowError
        return Service.asked - asked

    return in_time(ask_all)


def reaches(opened: grpc.Channel, *call: Any, **options: Any) -> bool:
    """Whether a call gets to the service right after it has refused one that is LIKE."""
    return asked_by(lambda: refused(opened, *LIKE), lambda: refused(opened, *call, **options)) == 2


def test_a_call_like_a_refused_one_is_refused_with_the_time_that_is_left(opened: grpc.Channel) -> None:
    failures: list[Any] = []
    call = [lambda: failures.append(refused(opened, *LIKE))]
    assert asked_by(failures.clear, *call * 5) == 1
    hints = [int(trailer(failure, "grpc-retry-pushback-ms") or 0) for failure in failures]
    assert hints == sorted(hints, reverse=True)
    assert HINT_MS - BINDING_MS <= hints[-1] < hints[0] == HINT_MS
    assert [failure.details() for failure in failures] == [WORDS.format(hint) for hint in hints]
    assert all(dict(failure.initial_metadata() + failure.trailing_metadata())["x-request-id"] for failure in failures)
    assert asked_by(*call) == 1


@pytest.mark.parametrize(
    "harder", [("gan/9", 2.0), ("gan/8", 1.0), ("gan/8", 0.05), ("gan/8", 2.05), ("gan/999999999", 0.5)], ids=str
)
def test_a_harder_call_is_refused_too(opened: grpc.Channel, harder: Any) -> None:
    assert not reaches(opened, *harder)


@pytest.mark.parametrize(
    "other",
    [
        ("gan/7", 2.0),
        ("gan/8", 2.2),
        ("gan/8", None),
        ("gan/2/8", 2.0),
        ("other/8", 2.0),
        ("gan/8", 2.0, [("x-ganvas-priority", "bulk")]),
        (None, 2.0),
    ],
    ids=str,
)
def test_an_easier_call_or_another_is_for_the_service(opened: grpc.Channel, other: Any) -> None:
    assert reaches(opened, *other)


@pytest.mark.parametrize(
    "work",
    ["", "/8", "gan", "gan/", "gan/-8", "gan/8.5", "gan/1e1", "gan/8 ", "gan 8", "g" * 300 + "/8", "gan/" + "9" * 20],
)
def test_what_cannot_be_meant_is_ignored(opened: grpc.Channel, work: str) -> None:
    assert asked_by(*[lambda: refused(opened, work, 2.0)] * 2) == 2


def test_methods_are_apart_and_streams_are_refused_too(opened: grpc.Channel) -> None:
    assert reaches(opened, *LIKE, method=sampler(opened).Decode)
    stream = sampler(opened).SampleStream

    def streamed(*arguments: Any, **options: Any) -> Any:
        return list(stream(*arguments, **options))

    assert reaches(opened, *LIKE, method=streamed)
    assert asked_by(*[lambda: refused(opened, *LIKE, method=streamed)] * 2) == 1


def test_a_call_without_a_deadline_binds_every_other(opened: grpc.Channel) -> None:
    assert asked_by(*(lambda seconds=seconds: refused(opened, "gan/8", seconds) for seconds in (None, None, 1000))) == 1


def test_nobody_is_told_to_come_back_at_once(opened: grpc.Channel) -> None:
    Service.hint_ms = 52

    def hint() -> int:
        return int(trailer(in_time(lambda: refused(opened, *LIKE)), "grpc-retry-pushback-ms") or 0)

    time.sleep(BINDING_MS / 1e3)
    hints = {hint() for _ in range(100)}
    assert min(hints) == 50
    assert max(hints) == 52


def test_one_call_asks_anew_while_the_others_are_refused(opened: grpc.Channel) -> None:
    def asked_anew() -> int:
        time.sleep(BINDING_MS / 1e3)
        asked, begun_s = Service.asked, time.monotonic()
        refused(opened, *LIKE)
        learnt_s = time.monotonic()
        time.sleep((ASK_MS + 3) / 1e3)
        calls = [
            sampler(opened).Sample.future(pb.SampleRequest(), timeout=LIKE[1], metadata=[(WORK, LIKE[0])])
            for _ in range(10)
        ]
        assert all(call.exception() for call in calls)
        if time.monotonic() - begun_s >= BINDING_MS / 1e3 or learnt_s - begun_s >= 0.01:
            raise TooSlowError
        return Service.asked - asked

    assert in_time(asked_anew) == 2


@pytest.mark.parametrize("binding_ms", [None, 0])
def test_a_refusal_that_does_not_bind_is_asked_for_again(opened: grpc.Channel, binding_ms: int | None) -> None:
    Service.binding_ms = binding_ms
    assert reaches(opened, *LIKE)


def test_a_refusal_binds_for_a_tenth_of_a_second_whatever_the_service_says(opened: grpc.Channel) -> None:
    Service.binding_ms = 10**9
    assert asked_by(lambda: refused(opened, *LIKE)) == 1
    assert asked_by(lambda: refused(opened, *LIKE)) == 1  # a tenth of a second later


def test_the_gateways_own_refusals_are_counted_and_logged(opened: grpc.Channel, gateway: GatewayProcess) -> None:
    assert not reaches(opened, *LIKE, [("x-request-id", "mine")])
    counted = r'^envoy_ganvas_gateway_requests\{[^}]*grpc_code="RESOURCE_EXHAUSTED"[^}]*refused="wait"\} [1-9]'
    # A request is counted and logged when it has ended there, which may be after its answer has come.
    eventually(lambda: re.search(counted, gateway.read_metrics(), re.MULTILINE) is not None)
    assert gateway.settings.log_dir is not None
    log = gateway.settings.log_dir / "gateway.log"

    def is_logged() -> bool:
        whole_lines = log.read_text().split("\n")[:-1]
        mine = [json.loads(line) for line in whole_lines if "mine" in line]
        return ("RESOURCE_EXHAUSTED", "wait") in [(line["grpc_status"], line["refused"]) for line in mine]

    eventually(is_logged)


def test_callers_are_apart(service: str, tmp_path: Path) -> None:
    Service.binding_ms = BINDING_MS
    keys_file = tmp_path / "keys.json"
    one, other = (add_key(keys_file, name, rate=None, concurrency=None) for name in ("one", "other"))
    gateway = started([service], tmp_path / "run", workers=1, keys_file=keys_file)
    try:
        with channel(gateway.port) as opened:
            calls = [lambda key=key: refused(opened, *LIKE, bearer(key)) for key in (one, other, one, other)]
            assert asked_by(*calls) == 2
    finally:
        gateway.stop(0)


@pytest.mark.parametrize(
    "settings",
    [{"service": 2}, {"keeps_images": True}, {"max_refusals": 1}],
    ids=["another service may have room", "the images may be kept", "too many are remembered"],
)
def test_the_service_is_asked_when(settings: dict[str, Any], service: str, tmp_path: Path) -> None:
    Service.binding_ms = BINDING_MS
    gateway = started([service] * settings.pop("service", 1), tmp_path / "run", workers=1, **settings)
    try:
        with channel(gateway.port) as opened:
            assert asked_by(*(lambda work=work: refused(opened, work, 2.0) for work in ("a/1", "b/1", "a/1"))) == 3
    finally:
        gateway.stop(0)
