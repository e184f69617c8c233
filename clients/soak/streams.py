"""One very long stream; thousands of idle connections and unread streams while another client is served."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from clients.bench.load import LoadJob, LoadReport, run_load
from clients.bench.load.loops import STREAM_COUNT
from clients.bench.targets import STREAM_METHOD, Target, channel_options
from clients.local_server import LocalServer
from clients.processes import Watcher, usage_of
from clients.soak.demands import Report
from clients.soak.fuzz.raw import PREFACE, SETTINGS, frame
from clients.soak.truth import Truth
from ganvas.v1 import sampler_pb2
from ganvas_core.cli import UserError

__all__ = ["Clients", "StreamsResult", "judge", "make_key", "run_streams"]

GROWTH, GROWTH_MIB = 0.15, 64.0
UNREAD_GROWTH_MIB = 256.0
UNREAD_CHANNELS = 8
SERVED_P99_MS = 500.0
PROBE_RATE = 20.0

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Who is who: the metadata with the key of each."""

    good: Metadata
    bad: Metadata


@dataclass(kw_only=True)
class StreamsResult:
    num_images: int = 0
    num_wrong: int = 0
    stream_failure: str = ""
    images_per_s: float = 0.0
    early_mib: float = 0.0
    late_mib: float = 0.0
    curve: list[list[float]] = field(default_factory=list)
    served: dict[str, LoadReport] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    """Most of all processes, while so many others were there."""
    parts_mib: dict[str, dict[str, float]] = field(default_factory=dict)
    """The same, part by part."""
    num_connected: int = 0
    unread: dict[str, int] = field(default_factory=dict)


def make_key(keys_file: Path, name: str) -> Metadata:
    """The metadata of a new caller.

    Raises:
        UserError: the verb failed.
    """
    command = [sys.executable, "-m", "serving", "keys", "add", name, "--keys-file", str(keys_file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"keys failed: {done.stderr.strip()[-500:]}")
    return (("authorization", f"Bearer {done.stdout.strip()}"),)


def run_streams(
    server: LocalServer,
    truth: Truth,
    *,
    images: int,
    connections: int,
    unread: int,
    seconds: float,
    clients: Clients,
    progress: Callable[[float, str], None],
) -> StreamsResult:
    """The long stream first, then the crowd.

    Args:
        seconds: how long the good client is measured each time.
    """
    result = StreamsResult()
    _long_stream(server, truth, images, clients.good, result, progress)

    def serve(name: str) -> None:
        model = truth.network.name
        target = Target(kind="service", address=server.service, model=model, metadata=clients.good)
        job = LoadJob(
            target=target,
            kind="open",
            seconds=seconds,
            rate=PROBE_RATE,
            poisson=False,
            deadline_s=10.0,
            verify=False,
        )
        with Watcher(server.pid, interval_s=0.5) as watcher:
            result.served[name] = run_load(job)
        most = max([*watcher.history, usage_of(server.pid)], key=lambda usage: usage.total_mib)
        result.memory_mib[name], result.parts_mib[name] = most.total_mib, most.pss_mib

    serve("alone")
    with _idle_connections(server.service, connections) as connected:
        result.num_connected = connected
        serve(f"beside {connections} idle connections")
    with _unread_streams(server.service, truth.network.name, unread, clients.bad) as calls:
        serve(f"beside {unread} unread streams")
        active = sum(call.is_active() for call in calls)
        codes = [call.code().name for call in calls if not call.is_active()]
        result.unread = {"open": active, **{code: codes.count(code) for code in sorted(set(codes))}}
    time.sleep(2.0)
    serve("afterwards")
    return result


def judge(result: StreamsResult, report: Report, *, images: int) -> None:
    """What the run must show."""
    report.demand("images of one stream", result.num_images, limit=images, at_least=True)
    report.demand("wrong or missing among them", result.num_wrong, limit=0)
    limit = max(result.early_mib * (1 + GROWTH), result.early_mib + GROWTH_MIB)
    report.demand("memory in its second half", result.late_mib, limit=limit, unit="MiB")
    for name, load in result.served.items():
        failed = sum(count for status, count in load.endings.items() if status != "OK")
        report.demand(f"failed calls {name}", failed, limit=0)
        if name != "alone":
            report.demand(f"one image p99 {name}", load.percentile_ms(99), limit=SERVED_P99_MS, unit="ms")
    most = max(result.memory_mib.values())
    report.demand("most memory", most, limit=result.memory_mib["alone"] + UNREAD_GROWTH_MIB, unit="MiB")
    report.figures |= {
        "stream, images/s": round(result.images_per_s),
        "stream's failure": result.stream_failure,
        "connections made": result.num_connected,
        "unread streams": result.unread,
        "memory MiB": {name: round(value) for name, value in result.memory_mib.items()},
        **{f"memory MiB by part, {name}": parts for name, parts in result.parts_mib.items()},
        **{f"one image {name}": load.summary() for name, load in result.served.items()},
        "stream's memory over time: s, MiB, descriptors": result.curve,
    }


def _long_stream(
    server: LocalServer,
    truth: Truth,
    images: int,
    metadata: Metadata,
    result: StreamsResult,
    progress: Callable[[float, str], None],
) -> None:
    """Read it as fast as it can be checked: every image's place, seed and bytes."""
    seeds = sampler_pb2.SeedRange(first=2**33, count=images)
    request = sampler_pb2.SampleRequest(model=truth.network.name, range=seeds).SerializeToString()
    begun_s, missing = time.monotonic(), images
    with (
        grpc.insecure_channel(server.service, options=channel_options()) as channel,
        Watcher(server.pid, interval_s=1.0) as watcher,
    ):
        call = channel.unary_stream(STREAM_METHOD, None, sampler_pb2.SampleResponse.FromString)
        seen = bytearray(images)
        try:
            for reply in call(request, metadata=metadata or None):
                result.num_wrong += _count_wrong(truth, reply.images, seeds.first, seen)
                result.num_images += len(reply.images)
                progress(result.num_images, f"{result.num_images} of {images} images")
        except grpc.RpcError as error:
            result.stream_failure = f"{error.code().name} {error.details()}"
        missing = images - sum(seen)
    result.num_wrong += missing
    elapsed_s = time.monotonic() - begun_s
    result.images_per_s = result.num_images / elapsed_s
    result.early_mib = watcher.peak_mib(begun_s + elapsed_s / 20, begun_s + elapsed_s / 4)
    result.late_mib = watcher.peak_mib(begun_s + elapsed_s / 2)
    result.curve = watcher.curve()


def _count_wrong(truth: Truth, images: Sequence[Any], first: int, seen: bytearray) -> int:
    expected = truth.computed([image.seed for image in images])
    wrong = 0
    for image, right in zip(images, expected, strict=True):
        good = image.seed == first + image.index and image.data == right and not seen[image.index]
        seen[image.index] = 1
        wrong += not good
    return wrong


@contextmanager
def _idle_connections(address: str, count: int) -> Iterator[int]:
    """HTTP/2 connections that say hello and nothing more. Gives the number that were accepted."""
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        connected = 0
        for _ in range(count):
            with contextlib.suppress(OSError):
                connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=10.0))
                connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
                connected += 1
        yield connected


@contextmanager
def _unread_streams(address: str, model: str, count: int, metadata: Metadata) -> Iterator[list[Any]]:
    """Streams of which nobody takes a message, by one client over a few connections."""
    seeds = sampler_pb2.SeedRange(first=0, count=STREAM_COUNT)
    request = sampler_pb2.SampleRequest(model=model, range=seeds).SerializeToString()
    with ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(address, options=channel_options()))
            for _ in range(UNREAD_CHANNELS)
        ]
        calls = [
            channels[i % UNREAD_CHANNELS].unary_stream(STREAM_METHOD, None, None)(request, metadata=metadata or None)
            for i in range(count)
        ]
        time.sleep(3.0)  # until they have begun
        try:
            yield calls
        finally:
            for call in calls:
                call.cancel()  # type: ignore[no-untyped-call]
