"""ganvas-client against tritonclient: `python -m benchmarks.client REPOSITORY MODEL [ROUNDS [SECONDS]]`.

One run over one `./ganvas serve` with two keys, one with a rate quota and one with both quotas (never reached), over
one Triton, taking turns in every round:

    tritonclient             Triton's own port, as its documentation has it: inputs from NumPy, image as NumPy
    Sampler.direct           Triton's own port
    tritonclient, gateway    the gateway, with the first key: what the gateway costs
    Sampler                  the gateway, with the first key
    Sampler, both quotas     the gateway, with the second key

One raw image: one caller, call by call in turn. 32 callers: asyncio, each client for itself. 10,000 images in one call
of Sampler, against the best that serialized 16-image requests reach at Triton's own port.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from rich.console import Console
from rich.table import Table

from clients.bench.gateway import QUOTA, add_key
from clients.bench.targets.requests import direct_request
from clients.local_server import LocalServer, local_server
from ganvas_client import AsyncSampler, ModelInfo, Sampler
from ganvas_core.interface import Arrays

CALLERS = 32
MANY = 10_000
BATCH = 16
IN_FLIGHT = (4, 8)
NUM_CALLS = 150
"""Of each client, one after another, in a round."""
WARM_UP_S = 0.3
WARM_UP_CALLS = 20

BARE, DIRECT, THROUGH, GATEWAY = "tritonclient", "Sampler.direct", "tritonclient, gateway", "Sampler"
BOTH = "Sampler, both quotas"


@dataclass(frozen=True)
class Keys:
    """API keys."""

    rate: str
    both: str


Figures = dict[str, list[float]]
"""One a round, by name."""


class Inputs:
    """What tritonclient sends for one image, as its documentation has it."""

    def __init__(self, info: ModelInfo) -> None:
        self._num_labels = len(info.labels)
        self._name = info.name

    def of(self, seed: int) -> dict[str, Any]:
        """The arguments of infer."""
        arrays: Arrays = {"seed": np.array([[seed]], np.uint64), "truncation": np.ones((1, 1), np.float32)}
        if self._num_labels:
            arrays["label"] = np.array([[seed % self._num_labels]], np.int64)
        inputs = []
        for name, array in arrays.items():
            tensor = triton.InferInput(name, array.shape, triton.np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return {"model_name": self._name, "inputs": inputs, "outputs": [triton.InferRequestedOutput("image")]}


def one_image(server: LocalServer, keys: Keys, info: ModelInfo) -> Figures:
    """Milliseconds of every call of one caller of each client, in turn call by call; the images are compared."""
    inputs, headers = Inputs(info), {"authorization": f"Bearer {keys.rate}"}
    with (
        triton.InferenceServerClient(server.triton_grpc) as bare,
        triton.InferenceServerClient(server.service) as through,
        Sampler.direct(server.triton_grpc) as direct,
        Sampler(server.service, api_key=keys.rate) as gateway,
        Sampler(server.service, api_key=keys.both) as counted,
    ):
        clients: dict[str, Callable[[int], Any]] = {
            BARE: lambda seed: bare.infer(**inputs.of(seed)).as_numpy("image"),
            DIRECT: lambda seed: direct.sample(info.name, seed).array,
            THROUGH: lambda seed: through.infer(**inputs.of(seed), headers=headers).as_numpy("image"),
            GATEWAY: lambda seed: gateway.sample(info.name, seed).array,
            BOTH: lambda seed: counted.sample(info.name, seed).array,
        }
        times_ms: Figures = {name: [] for name in clients}
        for seed in range(-WARM_UP_CALLS, NUM_CALLS):
            images = []
            for name, call in clients.items():
                begin = time.perf_counter()
                images.append(call(abs(seed)))
                if seed >= 0:
                    times_ms[name].append((time.perf_counter() - begin) * 1e3)
            assert all(np.array_equal(image, images[0]) for image in images)
    return times_ms


def many_callers(server: LocalServer, keys: Keys, info: ModelInfo, seconds: float) -> dict[str, float]:
    """Requests of one image a second, of CALLERS callers in one event loop, by client."""
    inputs, headers = Inputs(info), {"authorization": f"Bearer {keys.rate}"}

    async def measure() -> dict[str, float]:
        async with (
            triton_aio.InferenceServerClient(server.triton_grpc) as bare,
            triton_aio.InferenceServerClient(server.service) as through,
            AsyncSampler.direct(server.triton_grpc) as direct,
            AsyncSampler(server.service, api_key=keys.rate) as gateway,
            AsyncSampler(server.service, api_key=keys.both) as counted,
        ):

            async def bare_call(seed: int) -> Any:
                return (await bare.infer(**inputs.of(seed))).as_numpy("image")

            async def through_call(seed: int) -> Any:
                return (await through.infer(**inputs.of(seed), headers=headers)).as_numpy("image")

            return {
                BARE: await _load(bare_call, seconds),
                DIRECT: await _load(lambda seed: direct.sample(info.name, seed), seconds),
                THROUGH: await _load(through_call, seconds),
                GATEWAY: await _load(lambda seed: gateway.sample(info.name, seed), seconds),
                BOTH: await _load(lambda seed: counted.sample(info.name, seed), seconds),
            }

    return asyncio.run(measure())


async def _load(call: Callable[[int], Awaitable[Any]], seconds: float, *, callers: int = CALLERS) -> float:
    """Calls a second of so many callers, each with one at a time."""
    start_s = time.perf_counter() + WARM_UP_S
    num_done = 0

    async def caller(seed: int) -> None:
        nonlocal num_done
        while (begin_s := time.perf_counter()) < start_s + seconds:
            await call(seed)
            num_done += begin_s >= start_s
            seed += 1

    await asyncio.gather(*(caller(number * 1_000_000) for number in range(callers)))
    return num_done / (time.perf_counter() - start_s)


def one_large_call(server: LocalServer, keys: Keys, info: ModelInfo, seconds: float) -> dict[str, float]:
    """Images a second: of MANY in one call, and the best of Triton's own port."""
    rates = {BARE: max(asyncio.run(_serialized(server, info, callers, seconds)) for callers in IN_FLIGHT)}
    for name, sampler in {
        DIRECT: Sampler.direct(server.triton_grpc),
        GATEWAY: Sampler(server.service, api_key=keys.rate),
        BOTH: Sampler(server.service, api_key=keys.both),
    }.items():
        with sampler:
            sampler.sample(info.name, range(BATCH))
            begin = time.perf_counter()
            images = sampler.sample(info.name, range(MANY))
            rates[name] = len(images) / (time.perf_counter() - begin)
    return rates


async def _serialized(server: LocalServer, info: ModelInfo, callers: int, seconds: float) -> float:
    """Images a second of requests of BATCH images that were made beforehand, and of which no reply is read."""
    num_labels = len(info.labels)
    requests = []
    for first in range(0, 64 * BATCH, BATCH):
        seeds = range(first, first + BATCH)
        labels = [seed % num_labels for seed in seeds] if num_labels else None
        requests.append(direct_request(info.name, seeds, labels=labels))
    async with grpc.aio.insecure_channel(server.triton_grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", request_serializer=None, response_deserializer=None
        )
        return BATCH * await _load(lambda seed: infer(requests[seed % len(requests)]), seconds, callers=callers)


def main(repository: str, model: str, rounds: str = "12", seconds: str = "0.7") -> None:
    console = Console()
    p50_ms: Figures = {}
    requests: Figures = {}
    images: Figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        keys_file = Path(scratch) / "keys.json"
        keys = Keys(
            rate=add_key(keys_file, "rate", "--rate", QUOTA),
            both=add_key(keys_file, "both", "--rate", QUOTA, "--concurrency", QUOTA),
        )
        with local_server(Path(repository), arguments=["--keys-file", str(keys_file)]) as server:
            with Sampler(server.service, api_key=keys.rate) as sampler:
                info = sampler.model(model)
            for number in range(int(rounds)):
                for name, times_ms in one_image(server, keys, info).items():
                    p50_ms.setdefault(name, []).append(statistics.median(times_ms))
                for figures, found in (
                    (requests, many_callers(server, keys, info, float(seconds))),
                    (images, one_large_call(server, keys, info, float(seconds))),
                ):
                    for name, rate in found.items():
                        figures.setdefault(name, []).append(rate)
                console.print(f"round {number + 1} of {rounds}", end="\r")
    console.print(_table("one raw image, p50 ms", p50_ms, lambda ours, bare: ours - bare, "added ms"))
    console.print(_table(f"{CALLERS} callers, requests/s", requests, lambda ours, bare: ours / bare, "ratio"))
    console.print(_table(f"{MANY} in one call, images/s", images, lambda ours, bare: ours / bare, "ratio"))


def _table(title: str, figures: Figures, compare: Callable[[float, float], float], what: str) -> Table:
    """Medians over the rounds; the comparison is made within each round."""
    table = Table(title, "median", f"{what}: median", "worst", "best")
    for name, values in figures.items():
        compared = sorted(compare(*pair) for pair in zip(values, figures[BARE], strict=True))
        if what == "added ms":
            compared.reverse()
        table.add_row(
            name,
            f"{statistics.median(values):.2f}",
            *(f"{value:.2f}" for value in (statistics.median(compared), compared[0], compared[-1])),
        )
    return table


if __name__ == "__main__":
    main(*sys.argv[1:])
