"""Sends the cases while a well-behaved client is served, and judges answers, restarts and memory.

Memory is compared with that of a server which has answered good requests of every kind and size, by as many senders: it
has loaded what it loads once, and its allocators hold what they hold for such requests. What is more after the
malformed ones is theirs.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from clients.local_server import LocalServer
from clients.processes import parts_of, usage_of
from clients.soak.demands import Report
from clients.soak.fuzz.cases import Case, Family, is_grpcs_own, is_proper, make_case
from clients.soak.fuzz.good import good_cases
from clients.soak.fuzz.send import Sender
from clients.soak.truth import Truth
from ganvas_client import GanvasError, Sampler

__all__ = ["FuzzResult", "judge", "run_fuzz"]

NUM_SENDERS = 8
GOOD_ROUNDS = 10
VICTIM_PAUSE_S = 0.2
SETTLE_S = 20.0
GROWTH, GROWTH_MIB = 0.15, 64.0
MAX_LISTED = 12
"""Of one family and answer."""


@dataclass(kw_only=True)
class FuzzResult:
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    """By family."""
    improper: list[dict[str, object]] = field(default_factory=list)
    improper_kinds: Counter[str] = field(default_factory=Counter)
    """By family and answer."""
    num_improper: int = 0
    grpcs_own: Counter[str] = field(default_factory=Counter)
    """INTERNAL answers of gRPC's library, by family and words: see is_grpcs_own."""
    slowest_s: float = 0.0
    victim_calls: int = 0
    victim_failures: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    num_good: int = 0
    good_failures: list[str] = field(default_factory=list)
    """Good requests before the malformed ones, and those that were not answered."""
    parts_mib: list[dict[str, float]] = field(default_factory=list)
    """Memory by part, before and after."""
    before_mib: float = 0.0
    after_mib: float = 0.0
    elapsed_s: float = 0.0


def run_fuzz(
    server: LocalServer,
    truth: Truth,
    *,
    seed: int,
    numbers: Sequence[int],
    families: Sequence[Family],
    progress: Callable[[float, str], None],
) -> FuzzResult:
    """Send the cases with these numbers."""
    result = FuzzResult()
    sender = Sender(service=server.service, kserve=server.triton_grpc, http=server.triton_http)
    lock, over = threading.Lock(), threading.Event()

    def send(number: int) -> None:
        case = make_case(seed, number, families)
        begun_s = time.monotonic()
        answer, words = sender.send(case)
        with lock:
            _note(result, case, answer, words, time.monotonic() - begun_s)
            count = sum(counts.total() for counts in result.answers.values())
            progress(count, f"{count} of {len(numbers)}, {result.num_improper} improper")

    try:
        with ThreadPoolExecutor(NUM_SENDERS) as senders:
            for case, (answer, words) in senders.map(lambda case: (case, sender.send(case)), _good(seed, families)):
                result.num_good += 1
                if answer not in ("OK", "200"):
                    result.good_failures.append(f"{case.family} {case.what}: {answer} {words[:200]}")
        parts, before = _identities(server.pid), usage_of(server.pid)
        result.before_mib = before.total_mib
        result.parts_mib.append(before.pss_mib)
        start_s = time.monotonic()
        victim = threading.Thread(target=_be_served, args=(server, truth, result, over))
        victim.start()
        with ThreadPoolExecutor(NUM_SENDERS) as senders:
            list(senders.map(send, numbers))
        result.elapsed_s = time.monotonic() - start_s
    finally:
        over.set()
        sender.close()
    victim.join()
    result.after_mib = _settled_mib(server.pid, _limit_mib(result.before_mib))
    result.parts_mib.append(usage_of(server.pid).pss_mib)
    result.restarted = sorted(parts - _identities(server.pid))
    return result


def judge(result: FuzzResult, report: Report) -> None:
    """What the run must show."""
    count = sum(counts.total() for counts in result.answers.values())
    report.demand("improper answers (UNKNOWN, INTERNAL but gRPC's own, 5xx, none)", result.num_improper, limit=0)
    report.demand("processes that ended or restarted", len(result.restarted), limit=0)
    report.demand("failed calls of a good client meanwhile", len(result.victim_failures), limit=0)
    report.demand("good requests before that failed", len(result.good_failures), limit=0)
    limit = _limit_mib(result.before_mib)
    report.demand("memory afterwards, against that after good requests", result.after_mib, limit=limit, unit="MiB")
    report.figures |= {
        "requests": count,
        "good requests before": result.num_good,
        "failures of good requests before": result.good_failures[:20],
        "seconds": result.elapsed_s,
        "slowest answer, s": result.slowest_s,
        "calls of the good client": result.victim_calls,
        "memory before, after good requests, MiB": result.before_mib,
        "memory by part, before and after": result.parts_mib,
        "answers": {family: dict(counts.most_common()) for family, counts in sorted(result.answers.items())},
        "improper by family and answer": dict(result.improper_kinds),
        "improper": result.improper,
        "INTERNAL by gRPC's own rule": dict(result.grpcs_own.most_common()),
        "restarted": result.restarted,
        "failures of the good client": result.victim_failures[:20],
    }


def _good(seed: int, families: Sequence[Family]) -> list[Case]:
    """GOOD_ROUNDS of them, in any order."""
    cases = good_cases(families) * GOOD_ROUNDS
    random.Random(seed).shuffle(cases)
    return cases


def _note(result: FuzzResult, case: Case, answer: str, words: str, took_s: float) -> None:
    result.answers.setdefault(case.family, Counter())[answer] += 1
    result.slowest_s = max(result.slowest_s, took_s)
    if is_grpcs_own(case, answer):
        result.grpcs_own[f"{case.family}: {words.splitlines()[-1][-80:] if words else ''}"] += 1
    if not is_proper(case, answer):
        result.num_improper += 1
        kind = f"{case.family} {answer}"
        result.improper_kinds[kind] += 1
        if result.improper_kinds[kind] <= MAX_LISTED:
            entry = {"number": case.number, "answer": answer, "what": case.what, "words": words[:200]}
            result.improper.append(entry | {"took_s": round(took_s, 2)})


def _be_served(server: LocalServer, truth: Truth, result: FuzzResult, over: threading.Event) -> None:
    """One image after another, checked."""
    with Sampler(server.service, direct=False) as sampler:
        while not over.wait(VICTIM_PAUSE_S):
            seeds = [result.victim_calls]
            try:
                images = sampler.sample(truth.network.name, seeds, timeout_s=10.0)
                if images[0].bytes != truth.images(seeds)[0]:
                    result.victim_failures.append(f"seed {seeds[0]}: wrong image")
            except GanvasError as error:
                result.victim_failures.append(f"seed {seeds[0]}: {error}")
            result.victim_calls += 1


def _identities(pid: int) -> set[str]:
    """Every process below pid, unmistakably."""
    return {
        f"{part} {process.pid} of {process.create_time()}"
        for part, processes in parts_of(pid).items()
        for process in processes
    }


def _limit_mib(before_mib: float) -> float:
    return max(before_mib * (1 + GROWTH), before_mib + GROWTH_MIB)


def _settled_mib(pid: int, limit_mib: float) -> float:
    """Memory once it is under the limit, or after SETTLE_S."""
    deadline_s = time.monotonic() + SETTLE_S
    while (now := usage_of(pid).total_mib) > limit_mib and time.monotonic() < deadline_s:
        time.sleep(0.5)
    return now
