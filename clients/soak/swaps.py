"""Version after version goes live under load: no call fails, and each reply is one version's, to the byte."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clients.local_server import LocalServer
from clients.networks import Network, export_version
from clients.processes import Watcher
from clients.soak.demands import Report
from clients.soak.truth import Truth
from ganvas_client import GanvasError, Image, Sampler

__all__ = ["SwapsResult", "judge", "run_swaps"]

POOL = range(2**50, 2**50 + 512)
SMALL_CALLERS, STREAM_CALLERS = 3, 1
SEEN_S = 60.0
"""Patience for a version to go live."""
TIMEOUT_S = 30.0
GROWTH_MIB = 128.0


@dataclass(kw_only=True)
class SwapsResult:
    images: Counter[str] = field(default_factory=Counter)
    """By version."""
    num_calls: int = 0
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seen_s: list[float] = field(default_factory=list)
    """From the end of each export until the version answered."""
    unseen: list[int] = field(default_factory=list)
    memory_mib: tuple[float, float] = (0.0, 0.0)
    """After the first swaps, at the end."""


@dataclass(kw_only=True)
class _Truths:
    """One for each version, made when its first reply arrives."""

    repository: Path
    network: Network
    by_version: dict[str, Truth] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def images(self, version: str, seeds: list[int]) -> list[bytes]:
        with self.lock:
            if version not in self.by_version:
                self.by_version[version] = Truth(self.repository, self.network, version=int(version))
        return self.by_version[version].images(seeds)


def run_swaps(
    server: LocalServer,
    repository: Path,
    network: Network,
    *,
    count: int,
    progress: Callable[[float, str], None],
) -> SwapsResult:
    """Export `count` new versions, each after the one before has gone live."""
    result, over = SwapsResult(), threading.Event()
    truths = _Truths(repository=repository, network=network)
    with Sampler(server.service) as sampler, Watcher(server.pid, interval_s=0.5) as watcher:
        kinds = [_small] * SMALL_CALLERS + [_stream] * STREAM_CALLERS
        callers = [
            threading.Thread(target=_call_again_and_again, args=(kind, i, sampler, truths, result, over))
            for i, kind in enumerate(kinds)
        ]
        for caller in callers:
            caller.start()
        try:
            moments = []
            for i in range(count):
                export_version(network, repository, seed=1000 + i)
                _wait_live(sampler, network.name, i + 2, result)
                _wait_used(str(i + 2), result)
                moments.append(time.monotonic())
                progress(i + 1, f"version {i + 2} is live, {result.num_calls} calls, {len(result.failures)} failed")
        finally:
            over.set()
            for caller in callers:
                caller.join()
        early_s = moments[min(2, count - 1)]
        result.memory_mib = watcher.peak_mib(until_s=early_s), watcher.peak_mib(since_s=moments[-1] - 5.0)
    return result


def judge(result: SwapsResult, report: Report, *, count: int) -> None:
    """What the run must show."""
    report.demand("swaps", len(result.seen_s), limit=count, at_least=True)
    report.demand("failed calls", len(result.failures), limit=0)
    report.demand("wrong images, or replies of two versions", len(result.wrong), limit=0)
    report.demand("versions that made images", len(result.images), limit=count + 1, at_least=True)
    early, late = result.memory_mib
    report.demand("memory at the end", late, limit=early + GROWTH_MIB, unit="MiB")
    report.figures |= {
        "calls": result.num_calls,
        "images checked": result.images.total(),
        "images by version": dict(result.images),
        "export to live, s": [round(value, 2) for value in result.seen_s],
        "versions never live": result.unseen,
        "memory early, MiB": early,
        "failures": result.failures[:20],
        "wrong": result.wrong[:20],
    }


def _wait_live(sampler: Sampler, name: str, version: int, result: SwapsResult) -> None:
    begun_s = time.monotonic()
    while time.monotonic() < begun_s + SEEN_S:
        try:
            if sampler.model(name, timeout_s=TIMEOUT_S).version == str(version):
                result.seen_s.append(time.monotonic() - begun_s)
                return
        except GanvasError as error:
            result.failures.append(f"GetModel: {error}")
        time.sleep(0.1)
    result.unseen.append(version)


def _wait_used(version: str, result: SwapsResult) -> None:
    """Callers ask for the newest version once in a while, so its first image is later than its going live."""
    begun_s = time.monotonic()
    while version not in result.images and time.monotonic() < begun_s + SEEN_S:
        time.sleep(0.1)


def _call_again_and_again(
    kind: Callable[[Sampler, str, random.Random], list[Image]],
    number: int,
    sampler: Sampler,
    truths: _Truths,
    result: SwapsResult,
    over: threading.Event,
) -> None:
    rng = random.Random(number)
    while not over.wait(rng.uniform(0.0, 0.1)):
        result.num_calls += 1
        try:
            images = kind(sampler, truths.network.name, rng)
        except GanvasError as error:
            result.failures.append(f"{kind.__name__.strip('_')}: {type(error).__name__}: {error}")
            continue
        versions = {image.info.version for image in images}
        if len(versions) != 1:
            result.wrong.append(f"{kind.__name__.strip('_')}: versions {sorted(versions)} in one reply")
            continue
        version = versions.pop()
        expected = truths.images(version, [image.seed or 0 for image in images])
        result.images[version] += len(images)
        for image, right in zip(images, expected, strict=True):
            if image.bytes != right:
                result.wrong.append(f"version {version}, seed {image.seed}")


def _small(sampler: Sampler, name: str, rng: random.Random) -> list[Image]:
    return list(sampler.sample(name, rng.choices(POOL, k=rng.randint(1, 16)), timeout_s=TIMEOUT_S))


def _stream(sampler: Sampler, name: str, rng: random.Random) -> list[Image]:
    """Slow enough to be under way when a version goes live."""
    images = []
    for image in sampler.sample_stream(name, POOL, timeout_s=2 * TIMEOUT_S):
        images.append(image)
        time.sleep(rng.uniform(0.0, 0.01))
    return images
