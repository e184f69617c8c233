"""The studio against the service: `python -m benchmarks.studio MODEL REPOSITORY [SECONDS [ROUNDS]]`.

One run over one `./ganvas serve --http`, 64 callers each, taking turns in every round:

    service    ganvas.v1.Sampler/Sample through the gateway, one PNG a call, 256 seeds in turn: it keeps none
    distinct   HTTP, one connection a caller, distinct seeds that nobody asked for before
    repeated   HTTP, the same 64 addresses again and again, while Triton is asked nothing

Then 10,000 images by HTTP are compared with the service's bytes. Requests are written by hand and replies only counted,
so that the load takes as little as it can of the cores that it shares with what it measures.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import uvloop

from clients.bench.load import LoadJob, run_load
from clients.bench.targets import Target
from clients.local_server import local_server
from ganvas_client import Sampler

CALLERS = 64
NUM_SAME = 10_000
WARM_UP_S = 0.5


class Caller(asyncio.Protocol):
    """One connection with one request at a time; counts the replies that are 200."""

    def __init__(self, targets: Iterator[bytes], until_s: float) -> None:
        self.times: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._targets = targets
        self._until_s = until_s
        self._rest = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._transport.write(b"GET " + next(self._targets) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._rest += data
            head, found, body = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            self._rest = b""
            if not head.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(RuntimeError(head.decode() + body.decode(errors="replace")))
                self._transport.close()
                return
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            self._missing = int(length[1]) - len(body)
        if self._missing == 0:
            now = time.perf_counter()
            self.times.append(now)
            if now < self._until_s:
                self._send()
            else:
                self._transport.close()
                self.done.set_result(None)


def http_rate(port: int, targets: list[Iterator[bytes]], seconds: float) -> float:
    """Images a second of one caller a list of targets."""

    async def load() -> float:
        loop = asyncio.get_running_loop()
        start = time.perf_counter() + WARM_UP_S
        callers = []
        for own in targets:
            _, caller = await loop.create_connection(partial(Caller, own, start + seconds), "127.0.0.1", port)
            callers.append(caller)
        await asyncio.gather(*(caller.done for caller in callers))
        return sum(start <= at < start + seconds for caller in callers for at in caller.times) / seconds

    return float(uvloop.run(load()))


def main(model: str, repository: Path, seconds: float = 5.0, rounds: int = 5) -> None:
    with local_server(repository, arguments=["--http", "0", "--log-level", "warning"]) as server:
        with Sampler(server.service) as sampler:
            digest = sampler.model(model).digest
        port = int((server.studio or "").rpartition(":")[2].strip("/"))
        base = f"/v1/models/{model}@{digest}/images/"
        fresh = itertools.count(1_000_000)
        figures = []
        for index in range(rounds):
            target = Target(kind="service", address=server.service, model=model, image_format="png")
            load = LoadJob(target=target, kind="closed", concurrency=CALLERS, seconds=seconds, warmup_s=WARM_UP_S)
            service = run_load(load).images_per_s
            distinct = http_rate(port, [_distinct(base, fresh) for _ in range(CALLERS)], seconds)
            same = [f"{base}{seed}.png".encode() for seed in range(CALLERS)]
            for path in same:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path.decode()}").close()
            before = _computed(server.metrics)
            repeated = http_rate(port, [itertools.cycle(same) for _ in range(CALLERS)], seconds)
            asked = _computed(server.metrics) - before
            figures.append((service, distinct, repeated))
            print(
                f"round {index + 1}: service {service:,.0f}, distinct {distinct:,.0f} ({distinct / service:.2f}), "
                f"repeated {repeated:,.0f} ({repeated / distinct:.1f} of distinct), Triton asked {asked}"
            )
        print(f"medians: distinct/service {statistics.median(d / s for s, d, _ in figures):.2f}", end=", ")
        print(f"repeated/distinct {statistics.median(r / d for _, d, r in figures):.1f}", end=", ")
        print(f"repeated/service {statistics.median(r / s for s, _, r in figures):.1f}")
        _compare(server.service, port, model, base)


def _distinct(base: str, fresh: Iterator[int]) -> Iterator[bytes]:
    return (f"{base}{seed}.png".encode() for seed in fresh)


def _computed(metrics: str) -> int:
    """Images that Triton has computed."""
    with urllib.request.urlopen(f"http://{metrics}/metrics") as response:
        text = response.read().decode()
    return sum(int(float(value)) for value in re.findall(r"^nv_inference_count\{.*\} (\S+)$", text, re.MULTILINE))


def _compare(service: str, port: int, model: str, base: str) -> None:
    """NUM_SAME images by HTTP and by gRPC, which must be the same bytes."""
    with Sampler(service) as sampler:
        differ = 0
        for image in sampler.sample_stream(model, range(NUM_SAME), format="png"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{base}{image.seed}.png") as response:
                differ += response.read() != image.bytes
    print(f"{NUM_SAME:,} images by HTTP: {NUM_SAME - differ:,} are the service's bytes, {differ} differ")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *(kind(text) for kind, text in zip((float, int), sys.argv[3:], strict=False)))
