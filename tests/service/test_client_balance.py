"""Several servers behind one Sampler, and a second attempt beside a late one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2

from ganvas_client import AsyncSampler, InvalidArgumentError, ResourceExhaustedError, Sampler
from ganvas_client.addresses import target_of
from tests.support.ports import free_port
from tests.support.scripted import Failure, serving
from tests.support.scripted_triton import Gateway

BUSY = Failure(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="full")
WAIT_S = 60.0
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(kw_only=True)
class Slow(Gateway):
    """A gateway whose first so many requests for images wait until they are let go."""

    num_held: int = 0
    let_go: threading.Event = field(default_factory=threading.Event)
    next_lets_go: bool = False
    """Whether the end of a request that is not held lets the others go."""
    asked: list[int] = field(default_factory=list)
    """The first seed of every request for images, those that are held too, which come first."""
    health: health.HealthServicer = field(default_factory=health.HealthServicer)
    knows_health: bool = False

    def service(self, details: Any) -> Any:
        if details.method == "/grpc.health.v1.Health/Watch" and self.knows_health:
            return grpc.unary_stream_rpc_method_handler(
                self.health.Watch,
                health_pb2.HealthCheckRequest.FromString,
                health_pb2.HealthCheckResponse.SerializeToString,
            )
        return super().service(details)

    def _ModelInfer(self, request: Any, context: Any) -> Any:
        self._hold(int.from_bytes(request.raw_input_contents[0][:8], "little"), context)
        return super()._ModelInfer(request, context)

    def _unary(self, request: Any, context: Any) -> Any:
        self._hold(request.range.first, context)
        return super()._unary(request, context)

    def _hold(self, seed: int, context: Any) -> None:
        with self.counting:
            self.asked.append(seed)
            is_held = len(self.asked) <= self.num_held
        if is_held:
            self.let_go.wait(WAIT_S)
        elif self.next_lets_go:
            context.add_callback(self.let_go.set)


Start = Callable[..., tuple[Slow, str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start another server; gives its address too."""
    with ExitStack() as stack:

        def start_one(**fields: Any) -> tuple[Slow, str]:
            server = Slow(**fields)
            address = stack.enter_context(serving(server))
            stack.callback(server.let_go.set)
            return server, address

        yield start_one


def sample(kind: type[Sampler] | type[AsyncSampler], address: Any, seeds: Any, **options: Any) -> list[int | None]:
    """The seeds of the images that came of one call for each."""
    if kind is Sampler:
        with Sampler(address, **options) as sampler:
            return [image.seed for each in seeds for image in sampler.sample("m", each)]

    async def work() -> list[int | None]:
        async with AsyncSampler(address, **options) as sampler:
            return [image.seed for each in seeds for image in await sampler.sample("m", each)]

    return asyncio.run(work())


def seeds_until(condition: Callable[[], bool], *, least: int = 8) -> Iterator[int]:
    """0, 1, 2, … until it holds, but some in any case: a server that connects late has no part in the first ones."""
    end_s, seed = time.monotonic() + WAIT_S, 0
    while seed < least or (not condition() and time.monotonic() < end_s):
        yield seed
        seed += 1


@pytest.fixture(params=[Sampler, AsyncSampler])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_calls_go_to_each_server_in_turn(kind: Any, start: Start) -> None:
    servers = [start() for _ in range(3)]

    def all_asked(times: int) -> bool:
        return all(len(server.infers) >= times for server, _ in servers)

    def seeds() -> Iterator[int]:
        yield from seeds_until(lambda: all_asked(1))
        before = [len(server.infers) for server, _ in servers]
        yield from range(30)
        shares.extend(len(server.infers) - old for (server, _), old in zip(servers, before, strict=True))

    shares: list[int] = []
    assert sample(kind, [address for _, address in servers], seeds())[-30:] == list(range(30))
    assert sum(shares) == 30
    assert min(shares) >= 5


def test_server_that_is_not_there_is_left_out(kind: Any, start: Start) -> None:
    (server, address) = start()
    assert sample(kind, [f"127.0.0.1:{free_port()}", address], range(8)) == list(range(8))
    assert len(server.infers) == 8


def test_call_that_one_server_cannot_take_goes_to_the_next(kind: Any, start: Start) -> None:
    broken, first = start(triton=[Failure()] * 100, failures=[Failure()], forever=True)
    healthy, second = start()
    seeds = sample(kind, [first, second], seeds_until(lambda: bool(broken.infers)))
    assert seeds == list(range(len(seeds)))
    assert len(healthy.infers) + healthy.attempts >= len(seeds)
    assert broken.infers


def test_server_that_says_it_does_not_serve_is_left_out(kind: Any, start: Start) -> None:
    draining, first = start(knows_health=True)
    draining.health.set("", NOT_SERVING)
    serving_one, second = start(knows_health=True)
    serving_one.health.set("", SERVING)
    assert sample(kind, [first, second], range(8)) == list(range(8))
    assert (len(draining.infers), len(serving_one.infers)) == (0, 8)


def test_one_name_in_a_list_stands_for_all_its_addresses(kind: Any, start: Start) -> None:
    _, address = start()
    assert sample(kind, [address.replace("127.0.0.1", "localhost")], [1, 2]) == [1, 2]


def test_several_servers_have_one_certificate_and_get_the_key(kind: Any, certificate: tuple[bytes, Path]) -> None:
    key, file = certificate
    credentials = grpc.ssl_server_credentials([(key, file.read_bytes())])
    servers = [Slow(), Slow()]
    trusted = grpc.ssl_channel_credentials(file.read_bytes())
    with serving(servers[0], credentials=credentials) as first, serving(servers[1], credentials=credentials) as second:
        options = {"credentials": trusted, "api_key": "gv-secret", "direct": False}
        wanted = seeds_until(lambda: all(server.metadata for server in servers))
        seeds = sample(kind, [first, second], wanted, **options)
        assert seeds == list(range(len(seeds)))
    for server in servers:
        assert {metadata["authorization"] for metadata in server.metadata} == {"Bearer gv-secret"}


@pytest.mark.parametrize(
    ("addresses", "target"),
    [
        ("host:1", "host:1"),
        (["host:1"], "dns:///host:1"),
        (["127.0.0.1:1", "127.0.0.2:2"], "ipv4:127.0.0.1:1,127.0.0.2:2"),
        (["[::1]:1", "[::2]:2"], "ipv6:[::1]:1,[::2]:2"),
        (["localhost:1", "127.0.0.2:2"], "ipv4:127.0.0.1:1,127.0.0.2:2"),
    ],
)
def test_addresses_are_a_target_of_grpc(addresses: Any, target: str) -> None:
    found, options = target_of(addresses)
    assert found == target
    assert bool(options) == isinstance(addresses, list)


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ([], "a list of at least one; got an empty list"),
        (["a", "b"], "address must be HOST:PORT; got 'a'."),
        (["127.0.0.1:x", "b"], "address must be HOST:PORT; got '127.0.0.1:x'."),
        (["unix:/tmp/socket"], "address must be HOST:PORT; got 'unix:/tmp/socket'."),
        (["127.0.0.1:1", "[::1]:1"], "must all be IPv4 or all IPv6; got 127.0.0.1:1, "),
        (["127.0.0.1:1", "nowhere.invalid:1"], "nowhere.invalid:1 cannot be looked up"),
    ],
)
def test_wrong_addresses_are_refused(addresses: list[str], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message.replace("[", r"\[")):
        Sampler(addresses)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("count", [1, 10])
def test_late_answer_is_asked_for_once_more(kind: Any, start: Start, direct: bool, count: int) -> None:
    server, address = start(num_held=1)
    assert sample(kind, address, [range(count)], direct=direct, hedge_after_s=0.05) == list(range(count))
    batches = set(range(0, count, 4)) if direct else {0}
    asked = Counter(server.asked)
    assert asked.keys() == batches
    assert asked[server.asked[0]] == 2  # the first of all is the held one
    assert set(asked.values()) <= {1, 2}  # on a busy machine others may be late too
    assert not server.let_go.is_set()


def test_answer_in_time_is_asked_for_once(kind: Any, start: Start) -> None:
    server, address = start()
    assert sample(kind, address, range(5), hedge_after_s=60.0) == list(range(5))
    assert len(server.infers) == 5


@pytest.mark.parametrize("direct", [True, False])
def test_failure_of_the_second_attempt_leaves_the_first(kind: Any, start: Start, direct: bool) -> None:
    _, address = start(num_held=1, triton=[BUSY], failures=[BUSY], next_lets_go=True)
    assert sample(kind, address, [7], direct=direct, hedge_after_s=0.05) == [7]


def test_failure_of_both_is_an_error(kind: Any, start: Start) -> None:
    _, address = start(num_held=1, triton=[BUSY, BUSY], next_lets_go=True)
    with pytest.raises(ResourceExhaustedError, match="full"):
        sample(kind, address, [7], hedge_after_s=0.05)


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_hedge_after_s_must_be_positive(value: float) -> None:
    with pytest.raises(InvalidArgumentError, match="hedge_after_s must be positive; got"):
        Sampler(hedge_after_s=value)


@pytest.mark.parametrize(("direct", "count"), [(True, 10), (False, 10), (False, 301)])
def test_progress_is_reported(kind: Any, start: Start, direct: bool, count: int) -> None:
    _, address = start()
    seen: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        seen.append((done, total))

    if kind is Sampler:
        with Sampler(address, direct=direct) as sampler:
            sampler.sample("m", range(count), progress=tell)
    else:

        async def work() -> None:
            async with AsyncSampler(address, direct=direct) as sampler:
                await sampler.sample("m", range(count), progress=tell)

        asyncio.run(work())
    assert seen == sorted(seen)
    assert seen[-1] == (count, count)
    assert len(seen) == {True: 3, False: 1 if count == 10 else count}[direct]
