"""Mixed load while parts are killed: no wrong image, nothing lost, back within seconds, nothing left behind."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import grpc

from clients.bench.targets import SERVICE_METHOD, direct_request
from clients.local_server import LocalServer
from clients.processes import Usage, Watcher
from clients.soak.callers import KINDS, POOL, VARIANTS, Caller, ending_of, infer
from clients.soak.demands import Report
from clients.soak.kills import Kill, Planned, Probed, kill_as_planned, recovery_s
from clients.soak.ledger import Ledger
from clients.soak.serving import Leavings
from clients.soak.truth import Truth
from ganvas.v1 import sampler_pb2
from ganvas_client import AsyncSampler, GanvasError, Sampler
from ganvas_core.names import MAX_MESSAGE_BYTES

__all__ = ["MixedResult", "judge", "run_mixed", "warm"]

PROBE_INTERVAL_S = 0.25
PROBE_TIMEOUT_S = 2.0
SETTLE_S = 5.0
RECOVERY_S = 5.0
STOPPED_RECOVERY_S = 20.0
"""Of a SIGSTOP: first the canary has to notice that nothing comes."""
GROWTH, GROWTH_MIB = 0.15, 64.0
"""Memory may differ by the larger of the two: of itself it varies by tens of MiB."""


@dataclass(kw_only=True)
class MixedResult:
    start_s: float
    end_s: float
    ledger: Ledger
    kills: list[Kill]
    probed: dict[str, list[Probed]] = field(default_factory=dict)
    usage: list[Usage] = field(default_factory=list)


def warm(truths: list[Truth]) -> None:
    """Compute what will be asked for before the load begins."""
    for truth in truths:
        for truncation, label in VARIANTS:
            truth.images(POOL, truncation=truncation, label=label if truth.network.num_labels else None)


async def run_mixed(
    server: LocalServer,
    truths: list[Truth],
    plan: list[Planned],
    *,
    seconds: float,
    rng: random.Random,
    progress: Callable[[float, str], None],
) -> MixedResult:
    """The load, the probes and the kills, for so many seconds."""
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.max_reconnect_backoff_ms", 500)]
    start_s = time.monotonic()
    result = MixedResult(start_s=start_s, end_s=start_s + seconds, ledger=Ledger(), kills=[])
    async with (
        AsyncSampler(server.service, direct=False) as sampler,
        grpc.aio.insecure_channel(server.service, options=options) as channel,
        grpc.aio.insecure_channel(server.triton_grpc, options=options) as direct,
    ):
        with Sampler(server.service, direct=False) as sync_sampler, Watcher(server.pid) as watcher:
            caller = Caller(
                sampler=sampler, sync_sampler=sync_sampler, channel=channel, direct=direct, truths=truths, rng=rng
            )
            loads = [
                _call_again_and_again(name, caller, result) for name, (_, many, _) in KINDS.items() for _ in range(many)
            ]
            probes = [_probe(kind, call, result) for kind, call in _probes(caller).items()]
            killing = asyncio.create_task(kill_as_planned(plan, server.pid, start_s=start_s, rng=rng))
            telling = asyncio.create_task(_tell(result, progress))
            await asyncio.gather(*loads, *probes)
            telling.cancel()
            result.kills = await killing
            await asyncio.sleep(SETTLE_S)
        result.usage = watcher.history
    for kill, following in pairwise([*result.kills, None]):
        assert kill is not None
        until_s = following.at_s if following else result.end_s
        kill.recovery_s = {
            kind: recovery_s(probed, killed_s=kill.at_s, until_s=until_s) for kind, probed in result.probed.items()
        }
    return result


async def _call_again_and_again(name: str, caller: Caller, result: MixedResult) -> None:
    kind, _, pause_s = KINDS[name]
    while (begun_s := time.monotonic()) < result.end_s:
        try:
            result.ledger.add(name, "ok", begun_s=begun_s, num_images=await kind(caller))
        except Exception as error:
            # Whatever a client raises is what its caller sees.
            expected = isinstance(error, GanvasError | grpc.RpcError)
            detail = f"{type(error).__name__}: {error if isinstance(error, GanvasError) else _text(error)}"
            result.ledger.add(name, ending_of(error), begun_s=begun_s, detail=detail if expected else repr(error))
        await asyncio.sleep(caller.rng.uniform(0.0, 2 * pause_s))


def _text(error: Exception) -> str:
    return f"{error.code().name} {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else str(error)


def _probes(caller: Caller) -> dict[str, Callable[[], Awaitable[Any]]]:
    """One image by the service for each model, and one row by KServe for each Triton model."""
    probes: dict[str, Callable[[], Awaitable[Any]]] = {}

    def add(kind: str, request: bytes, *, service: bool) -> None:
        call = caller.channel.unary_unary(SERVICE_METHOD, None, None)
        probes[kind] = lambda: (
            call(request, timeout=PROBE_TIMEOUT_S)
            if service
            else infer(caller.direct, request, timeout_s=PROBE_TIMEOUT_S)
        )

    for truth in caller.truths:
        name = truth.network.name
        request = sampler_pb2.SampleRequest(model=name, seeds=[POOL[0]]).SerializeToString()
        add(f"service {name}", request, service=True)
        add(f"KServe {name}", direct_request(name, POOL[:1], labels=truth.labels(POOL[:1])), service=False)
    return probes


async def _probe(kind: str, call: Callable[[], Awaitable[Any]], result: MixedResult) -> None:
    """Begin a call every PROBE_INTERVAL_S, whether or not the one before has ended."""
    probed: list[Probed] = []

    async def once() -> None:
        begun_s, ok = time.monotonic(), True
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            ok = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # an answer of a server that is well
        probed.append(Probed(begun_s=begun_s, ended_s=time.monotonic(), ok=ok))

    async with asyncio.TaskGroup() as tasks:
        while time.monotonic() < result.end_s:
            tasks.create_task(once())
            await asyncio.sleep(PROBE_INTERVAL_S)
    result.probed[kind] = sorted(probed, key=lambda probe: probe.begun_s)


async def _tell(result: MixedResult, progress: Callable[[float, str], None]) -> None:
    while True:
        ledger = result.ledger
        text = f"{ledger.num_images} images, {ledger.count('lost')} lost, {ledger.count('wrong')} wrong"
        progress(time.monotonic() - result.start_s, text)
        await asyncio.sleep(1.0)


def judge(result: MixedResult, leavings: Leavings, report: Report) -> None:
    """What the run must show."""
    ledger, usage = result.ledger, result.usage
    report.demand("wrong images or replies", ledger.count("wrong"), limit=0)
    report.demand("calls lost before their deadline", ledger.count("lost"), limit=0)
    report.demand("calls refused as too much", ledger.count("refused"), limit=ledger.num_calls / 100)
    for stop, limit in ((False, RECOVERY_S), (True, STOPPED_RECOVERY_S)):
        slowest = [max(kill.recovery_s.values()) for kill in result.kills if kill.planned.stop == stop]
        if slowest:
            title = f"slowest recovery from {len(slowest)} {'SIGSTOP' if stop else 'SIGKILL'}"
            report.demand(title, max(slowest), limit=limit, unit="s")
    early = usage[len(usage) // 8 : max(2, len(usage) // 4)]
    late = usage[-max(2, len(usage) // 8) :]
    before, after = (statistics.median(entry.total_mib for entry in part) for part in (early, late))
    report.demand("memory at the end", after, limit=max(before * (1 + GROWTH), before + GROWTH_MIB), unit="MiB")
    for title, read in (
        ("descriptors at the end", lambda entry: entry.num_descriptors),
        ("the supervisor's descriptors at the end", lambda entry: entry.descriptors["supervisor"]),
        ("processes at the end", lambda entry: entry.num_processes),
    ):
        # The most: while a part is being started again, there are fewer.
        start, end = max(map(read, early)), statistics.median(map(read, late))
        report.demand(title, end, limit=start + (32 if title.startswith("descriptors") else 4))
    report.demand("left behind: processes, shared memory, files, an exit code", leavings.count, limit=0)
    # Figures.
    report.figures |= {
        "seconds": result.end_s - result.start_s,
        "calls": ledger.num_calls,
        "images checked": ledger.num_images,
        "calls by kind": ledger.by_kind(),
        "kills": [kill.as_json(result.start_s) for kill in result.kills],
        "failures": ledger.listed,
        "memory MiB, by part, early": early[-1].pss_mib,
        "memory MiB, by part, late": late[-1].pss_mib,
        "descriptors, by part, early": early[-1].descriptors,
        "descriptors, by part, late": late[-1].descriptors,
        "stop_s": round(leavings.stop_s, 2),
        "left": vars(leavings),
    }
