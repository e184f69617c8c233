"""Sees that every version that is served answers, and rightly; takes out and loads anew those that do not.

Five signs are watched: a process of a model that is dead, any process that is stopped, a golden answer that comes out
wrong, late or not at all (the canary), a version that the service refuses when Triton is back, and a Triton that is
silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from ganvas_core.names import Role, triton_name
from serving.backends.onnxruntime.ganvas_counts import Read
from serving.repository.golden import GoldenMismatchError
from serving.service.inference.wanted import VersionId
from serving.service.logs import logfmt
from serving.supervise.canary import CanaryError, LateError, make_one
from serving.supervise.part import Keeper, Part
from serving.supervise.stubs import Stub, read_state, stubs_of
from serving.supervise.triton_part import TritonPart
from serving.supervise.versions import Versions

__all__ = ["Medic"]

LOOK_S = 0.2
CERTAIN_S = 0.05
"""A process that Triton ends itself is a dead one for a moment too: one that has ended is looked at twice."""
STOPPED_S = 1.0
"""A process that is stopped for this long is killed."""
REMAINS_S, LONG_REMAINS_S = 2.5, 15.0
"""A dead process that Triton has not counted by then holds requests that nobody will answer. It takes a second without
any, and one more for each batch that it has to answer with an error. The longer one is for a Triton whose start takes
longer, so that the cure may be worse than the disease."""
LEAVING_S = 0.1
"""A Triton that refused a golden answer is known to be dead after this, if it is."""
QUICK_START_S = 15.0
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 30.0
NUM_ATTEMPTS = 3
"""Loads that may fail before Triton itself is started again."""
SILENT_S = 5.0
NUM_SILENCES = 3

Cause = Literal["dead process", "wrong answer", "no answer", "rejected", "pin not kept"]
"""Why a version is not served, as the metrics call it."""

logger = logging.getLogger("ganvas.supervisor")


class Medic:
    """One run's.

    Args:
        triton: kept by `keeper`.
        parts: every part, Triton too: one whose process is stopped is killed, and so started again.
        models: Triton's model repository.
        canary_s: pause between two rounds of golden answers; 0: none.
        canary_timeout_s: a golden answer that takes longer is a failure.
    """

    def __init__(
        self,
        versions: Versions,
        triton: TritonPart,
        keeper: Keeper,
        models: Path,
        *,
        parts: Sequence[Part],
        canary_s: float,
        canary_timeout_s: float,
    ) -> None:
        self.reloads = 0
        """Versions that were loaded anew."""
        self.failures = 0
        """Golden answers that came out wrong, late or not at all."""
        self._versions = versions
        self._triton = triton
        self._keeper = keeper
        self._parts = parts
        self._models = models
        self._canary_s = canary_s
        self._canary_timeout_s = canary_timeout_s
        self._stubs: dict[int, Stub] = {}
        self._ends: dict[int, int] = {}
        """Process ids of stubs to descriptors that become readable when they end."""
        self._one_ended = asyncio.Event()
        self._dead: set[int] = set()
        self._dead_once: set[int] = set()
        self._stopped: dict[int, float] = {}
        self._broken: dict[VersionId, set[str]] = {}
        self._causes: dict[VersionId, Cause] = {}
        self._suspected = asyncio.Event()
        self._round = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    async def run(self) -> None:
        """Watch until cancelled; what heals a version then ends too, as it would kill a Triton that is drained."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_stubs())
                group.create_task(self._watch_triton())
                if self._canary_s:
                    group.create_task(self._canaries())
        finally:
            self._ended = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def states(self) -> dict[VersionId, Cause | None]:
        """Every version of the repository or pinned; None: it is served, as far as its parts are up."""
        rejected: dict[VersionId, Cause | None] = dict.fromkeys(self._versions.refused(), "rejected")
        served: dict[VersionId, Cause | None] = dict.fromkeys(list(self._versions.entries))
        broken = {key: cause for key, cause in dict(self._causes).items() if key in served}
        return served | rejected | broken | dict.fromkeys(self._versions.pins_not_kept(), "pin not kept")

    def suspect(self) -> None:
        """Make a round of golden answers at once."""
        self._suspected.set()

    def refused(self, key: VersionId, reason: str) -> None:
        """The service has refused a version that it should serve. It is proven once more before it is loaded anew."""
        for part in self._versions.entries[key].parts():
            self._break(key, part.name, reason, "rejected")

    async def _watch_stubs(self) -> None:
        try:
            await self._look_again_and_again()
        finally:
            for pid in list(self._ends):
                self._end(pid)

    async def _look_again_and_again(self) -> None:
        while True:
            if self._dead_once:
                await asyncio.sleep(CERTAIN_S)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._one_ended.wait(), LOOK_S)
            self._one_ended.clear()
            self._kill_stopped([*self._stubs, *(part.pid for part in self._parts if part.pid is not None)])
            if not self._keeper.ready.is_set() or (pid := self._triton.pid) is None:
                self._stubs.clear()
                self._dead_once.clear()
                continue
            for stub in self._newly_dead():
                self._replace(stub)
            for stub in stubs_of(pid, self._models, known=self._stubs.keys() | self._dead):
                self._stubs[stub.pid] = stub
                self._watch_end(stub.pid)

    def _watch_end(self, pid: int) -> None:
        """Have `_one_ended` set when a process ends."""
        if pid not in self._ends:
            with contextlib.suppress(ProcessLookupError):
                self._ends[pid] = os.pidfd_open(pid)
                asyncio.get_running_loop().add_reader(self._ends[pid], self._end, pid)

    def _end(self, pid: int) -> None:
        descriptor = self._ends.pop(pid)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self._one_ended.set()

    def _replace(self, stub: Stub) -> None:
        """Load the version of a dead process anew; or start Triton again, if requests were in the process."""
        key = self._key_of(stub)
        if key is None:
            return
        held = self._triton.held(stub.pid)
        reason = f"the process {stub.pid} of {stub.model} is dead"
        if not held or not self._restart_triton(f"{reason}, with {held} requests in it"):
            self._break(key, stub.model, reason, "dead process", stub.pid)

    def _newly_dead(self) -> list[Stub]:
        """Those that were dead at the last look too: one that Triton ends itself is dead only for a moment."""
        dead = {pid for pid in self._stubs if read_state(pid) == "Z"}
        certain = dead & self._dead_once
        self._dead_once = dead
        self._dead |= certain
        gone = {pid for pid in self._stubs if not read_state(pid)}
        found = [self._stubs[pid] for pid in certain]
        for pid in certain | gone:
            del self._stubs[pid]
        return found

    def _kill_stopped(self, pids: list[int]) -> None:
        """Kill what is stopped: it would hold its requests for ever."""
        for pid in pids:
            if read_state(pid) not in ("T", "t"):
                self._stopped.pop(pid, None)
            elif time.monotonic() - self._stopped.setdefault(pid, time.monotonic()) > STOPPED_S:
                logger.error(logfmt(event="killed", pid=pid, reason="it was stopped"))
                _kill(pid)

    def _key_of(self, stub: Stub) -> VersionId | None:
        for key, entry in self._versions.entries.items():
            if key[1] == stub.version and stub.model in {part.name for part in entry.parts()}:
                return key
        return None

    def _break(self, key: VersionId, model: str, reason: str, cause: Cause, dead_pid: int | None = None) -> None:
        """Take a version out, and bring it back."""
        if self._ended:
            return
        self._causes[key] = cause
        if key in self._broken:
            self._broken[key].add(model)
            return
        self._broken[key] = {model}
        task = asyncio.create_task(self._mend(key, reason, dead_pid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _mend(self, key: VersionId, reason: str, dead_pid: int | None) -> None:
        delay_s, attempts = FIRST_DELAY_S, 0
        began, began_s = self._keeper.restarts, time.monotonic()
        restarts = None if self._causes[key] == "rejected" else began
        try:
            while self._broken[key] and key in self._versions.entries:
                models = sorted(self._broken[key])
                # A Triton that was started again meanwhile has loaded everything anew: it only has to be proven.
                old = models if self._keeper.restarts == restarts else []
                restarts = self._keeper.restarts
                if self._causes[key] == "rejected":
                    self._kill_stubs(key[1], old)
                unforeseen: Exception | None = None
                try:
                    problem = await self._versions.reload(key, old, reason)
                except Exception as error:  # whatever it is, it must not leave the version out for ever
                    problem, unforeseen = f"{type(error).__name__}: {error}", error
                if problem is None:
                    self._broken[key] -= set(models)
                    self.reloads += key in self._versions.entries
                    continue
                attempts += 1
                logger.error(
                    logfmt(event="still-out", model=key[0], version=key[1], reason=problem), exc_info=unforeseen
                )
                if attempts % NUM_ATTEMPTS == 0 and self._versions.was_served(key):
                    self._restart_triton(f"{key[0]} version {key[1]} does not come back")
                await self._pause(delay_s)
                delay_s = min(2 * delay_s, LONGEST_DELAY_S)
                await self._keeper.ready.wait()
        finally:
            del self._broken[key], self._causes[key]
        if dead_pid is not None:
            remains_s = REMAINS_S if self._keeper.start_s <= QUICK_START_S else LONG_REMAINS_S
            await asyncio.sleep(began_s + remains_s - time.monotonic())
            if read_state(dead_pid) == "Z" and self._keeper.restarts == began:
                self._restart_triton(f"requests hang in the dead process {dead_pid}")

    async def _pause(self, delay_s: float) -> None:
        """Sleep, at most until Triton is started again: a new one calls what it did not load unknown."""
        restarts, end_s = self._keeper.restarts, time.monotonic() + delay_s
        while self._keeper.restarts == restarts and (left_s := end_s - time.monotonic()) > 0:
            await asyncio.sleep(min(LOOK_S, left_s))

    def _kill_stubs(self, version: int, models: Collection[str]) -> None:
        """Kill processes that may not answer: else their models would never be unloaded."""
        for stub in list(self._stubs.values()):
            if stub.version == version and stub.model in models:
                _kill(stub.pid)

    def _restart_triton(self, reason: str) -> bool:
        """Kill Triton, if it is soon back; whether it is being started again."""
        pid = self._triton.pid
        if pid is None or not self._keeper.ready.is_set():
            return True
        if self._keeper.start_s > QUICK_START_S:
            logger.error(logfmt(event="restart-needed", part="triton", reason=reason))
            return False
        logger.error(logfmt(event="restart", part="triton", reason=reason))
        _kill(pid)
        return True

    async def _watch_triton(self) -> None:
        silences = 0
        while True:
            await asyncio.sleep(1)
            if not self._keeper.ready.is_set():
                silences = 0
                continue
            live = await asyncio.to_thread(self._triton.http.is_live)
            silences = 0 if live is not None else silences + 1
            if silences >= NUM_SILENCES and (pid := self._triton.pid) is not None:
                logger.error(logfmt(event="killed", part="triton", pid=pid, reason=f"silent {silences} times"))
                _kill(pid)

    async def _canaries(self) -> None:
        late: set[tuple[VersionId, str]] = set()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._suspected.wait(), self._canary_s)
            self._suspected.clear()
            self._round += 1
            for key, entry in list(self._versions.entries.items()):
                for part in entry.parts():
                    if entry.golden(part.role):
                        await self._canary(key, part.role, late)

    async def _canary(self, key: VersionId, role: Role, late: set[tuple[VersionId, str]]) -> None:
        """Make one golden answer; a first failure that may be the load of the machine is tried again first."""
        entry = self._versions.entries.get(key)
        if entry is None or key in self._versions.out or not self._keeper.ready.is_set():
            return
        loads, model, restarts = self._versions.loads(key), triton_name(key[0], role), self._keeper.restarts
        before = self._progress(model, key[1])
        try:
            await asyncio.to_thread(make_one, self._triton.http, entry, role, self._round, self._canary_timeout_s)
        except (GoldenMismatchError, CanaryError) as error:
            await asyncio.sleep(LEAVING_S)
            if key in self._versions.out or loads != self._versions.loads(key):
                return
            if not self._keeper.ready.is_set() or restarts != self._keeper.restarts:
                return
            self.failures += 1
            reason = str(error)
            num_batches = _batches_since(before, self._progress(model, key[1]))
            if is_busy := isinstance(error, LateError) and num_batches > 0:
                reason += f". Meanwhile it computed {num_batches} batches: it is busy, and is not taken out for that."
            logger.error(logfmt(event="canary", model=model, version=key[1], reason=reason))
            if is_busy:  # the image waits behind direct calls, which the gateway lets in and nobody else counts
                late.discard((key, model))
                return
            if isinstance(error, CanaryError) and (key, model) not in late:
                late.add((key, model))
                self._suspected.set()
                return
            if isinstance(error, CanaryError):
                self._kill_stubs(key[1], [model])
            self._break(key, model, str(error), "no answer" if isinstance(error, CanaryError) else "wrong answer")
        late.discard((key, model))

    def _progress(self, model: str, version: int) -> dict[int, Read]:
        """What the living processes of a model have computed, by their ids."""
        return {
            it.pid: it
            for it in self._triton.computed()
            if (it.model, it.version) == (model, str(version)) and read_state(it.pid) not in ("", "Z")
        }


def _batches_since(before: dict[int, Read], now: dict[int, Read]) -> int:
    """How many batches were computed; 0 if one of the processes held requests all the time and computed none."""
    num_batches = 0
    for pid, read in now.items():
        earlier = before.get(pid)
        since = read.batches - (0 if earlier is None else earlier.batches)
        if earlier is not None and since == 0 and read.held and earlier.held:
            return 0
        num_batches += since
    return num_batches


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
