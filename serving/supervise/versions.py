"""Which versions are served: what is in the repository, as far as Triton has loaded it and the service proven it.

A version that appears in the repository is staged, loaded beside the others, proven by the service, and only then
what an empty version means. One that fails anywhere on the way is refused, and what was served stays; unless the fault
is in the version itself, it is tried again later. One that is deleted from the repository is retired, unless it is the
last or pinned. A pinned version that cannot be served leaves the model without a default: the newer one that an
operator went back from must not come back by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any

from serving.repository.pins import remedy
from serving.repository.reader import ModelVersion, Rejected, Repository, RepositoryError, list_versions
from serving.service.inference.wanted import VersionId, Wanted
from serving.service.logs import logfmt
from serving.supervise.arrivals import Arrivals
from serving.supervise.loader import Loader
from serving.supervise.pins_file import PinsFile
from serving.supervise.services import Services
from serving.supervise.staging import Staging, StagingError
from serving.supervise.triton_part import TritonPart

__all__ = ["Versions"]

POLL_S = 1.0
RESTARTING = "is being loaded again"
PIN_NOT_KEPT = "is pinned and cannot be served"

logger = logging.getLogger("ganvas.supervisor")


class Versions:
    """The versions of one run.

    Args:
        source: the repository that is followed.
        repository: what is staged at the start.
        load_s: how long Triton and the service get for one version.
        retire_s: how long calls that have a version may go on with it once it is retired.
        direct: takes the default version of each model whenever something changes.
    """

    def __init__(
        self,
        source: Path,
        staging: Staging,
        repository: Repository,
        triton: TritonPart,
        service: Services,
        *,
        load_s: float,
        retire_s: float,
        direct: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        self.entries: dict[VersionId, ModelVersion] = {
            (entry.name, entry.version): entry for entry in repository.versions
        }
        self.out: dict[VersionId, str] = {}
        """Versions that are not served for the moment, and what callers are told until they are proven again."""
        self._unloaded: set[VersionId] = set()
        """Those of them that cannot be proven yet."""
        self.rejected: dict[VersionId, Rejected] = {(entry.name, entry.version): entry for entry in repository.rejected}
        self._source = source
        self._staging = staging
        self._loader = Loader(staging, triton, load_s=load_s)
        self._service = service
        self._load_s = load_s
        self._retire_s = retire_s
        self._direct = direct
        self._loads = dict.fromkeys(self.entries, 1)
        self._proven = set(self.entries)
        self._served: set[VersionId] = set()
        """Those that were proven once."""
        self._pins_file = PinsFile(source)
        self._pins = self._pins_file.read()
        """In force: a pin of a version that is being added waits for it."""
        self._told: dict[str, str] = {}
        """What was last logged of the pin of a model."""
        self._arrivals = Arrivals(source, known=(*self.entries, *self.rejected))
        for entry in repository.rejected:
            if entry.transient:
                self._arrivals.fail((entry.name, entry.version))
        self._verdicts: dict[tuple[VersionId, int], asyncio.Future[Rejected | None]] = {}
        self._one_add_at_a_time = asyncio.Lock()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Of each model: Triton loads and unloads different ones side by side, and one model's in turn."""
        self._tasks: dict[VersionId, asyncio.Task[None]] = {}
        """Versions that are being added or retired."""

    @property
    def pins_ok(self) -> bool:
        """Whether the pins in use are those of the file as it is now."""
        return self._pins_file.ok

    def wanted(self) -> Wanted:
        """What the service should serve."""
        not_served = self.pins_not_kept()
        defaults = {name: version for name in self.names() if (version := self.default(name)) is not None}
        return Wanted(
            versions={key: self._loads[key] for key in self.entries if key not in self._unloaded},
            defaults=defaults | dict(not_served.keys()),
            out=dict.fromkeys(not_served, PIN_NOT_KEPT) | self.out,
        )

    def loads(self, key: VersionId) -> int:
        """How often a version was loaded."""
        return self._loads[key]

    def refused(self) -> list[VersionId]:
        """Those that are not served because they were rejected, when they were read or by their proof."""
        unproven = [key for key in list(self.entries) if key not in self._proven and key not in self._tasks]
        return [*self.rejected, *unproven]

    def was_served(self, key: VersionId) -> bool:
        """Whether it has been served since the start."""
        return key in self._served

    def names(self) -> list[str]:
        return sorted({name for name, _ in list(self.entries)})

    def default(self, name: str) -> int | None:
        """The version that an empty version means: the pinned one, else the newest that is proven; None: there is none.

        A pin that cannot be kept gives None too.
        """
        proven = {version for model, version in self._proven if model == name}
        pin = self._pins.get(name, max(proven, default=None))
        return pin if pin in proven else None

    def pins_not_kept(self) -> dict[VersionId, str]:
        """Pinned versions that cannot be served, of models that have others, and why."""
        found = {}
        for key in list(self._pins.items()):
            if key[0] in self.names() and key not in self._proven:
                rejected = self.rejected.get(key)
                found[key] = rejected.reason if rejected else self._reason(key)
        return found

    def on_serving(self, models: list[dict[str, Any]]) -> None:
        """A service has started, and proven what it could of what was wanted."""
        served = {(model["name"], model["version"]) for model in models}
        for key in set(self.wanted().versions) - served:
            if key not in self._served:  # one that was is to be healed, and stays what an empty version means
                self._proven.discard(key)
        self._served |= served & set(self.entries)
        self.tell()
        self._tell_pins()

    def on_verdict(self, key: VersionId, loads: int, rejected: Rejected | None) -> bool:
        """The service has proven a version, or refused it.

        Returns:
            Whether it has refused a version that nobody is adding or healing, and that may yet be served.
        """
        verdict = self._verdicts.get((key, loads))
        if verdict is not None:
            if not verdict.done():
                verdict.set_result(rejected)
            return False
        if rejected is None or key not in self.entries or key in self.out or loads != self._loads[key]:
            return False
        return rejected.transient or key in self._served

    def tell(self) -> None:
        """Let the service and the gateway know what is wanted."""
        wanted = self.wanted()
        self._service.command("serve", **wanted.to_command())
        self._direct(wanted.defaults)

    async def follow(self) -> None:
        """Follow the repository until cancelled."""
        try:
            while True:
                await asyncio.sleep(POLL_S)
                try:
                    await self._follow_once()
                except (RepositoryError, OSError) as error:
                    logger.error(logfmt(event="repository-not-followed", reason=str(error)))
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _follow_once(self) -> None:
        """One turn. Whatever takes time goes on beside it, so that a pin never waits for another version."""
        pins = self._pins_file.read()  # first, so that a version that is published and then pinned is there
        there_is = dict.fromkeys(await asyncio.to_thread(lambda: list(list_versions(self._source))))
        self._forget_ended_tasks()
        coming = [
            key for key in there_is if key in self._tasks or (key not in self.entries and self._arrivals.is_due(key))
        ]
        self._follow_pins(pins, coming)
        for key in coming:
            if key not in self._tasks:
                self._begin(key, self._add(key))
        for key in set(self.entries) - set(there_is) - set(self._tasks):
            others = any(other in self._proven for other in there_is if other[0] == key[0])
            if others and not (key in self._proven and self._pins.get(key[0]) == key[1]):
                self._retire(key)
        self._tell_pins()

    def _follow_pins(self, pins: Mapping[str, int], coming: Collection[VersionId]) -> None:
        """Put pins in force, but for those of versions that are coming: until then the old ones stay."""
        waiting = {name for name, version in pins.items() if (name, version) in coming}
        old = {name: version for name, version in self._pins.items() if name in waiting}
        pins = {name: version for name, version in pins.items() if name not in waiting} | old
        if pins != self._pins:
            self._pins = pins
            self.tell()
            for name in self.names():
                logger.warning(logfmt(event="default", model=name, version=self.default(name)))

    def _begin(self, key: VersionId, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[key] = asyncio.create_task(work)

    def _forget_ended_tasks(self) -> None:
        """Raises what one of them has raised."""
        for key, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[key]
                task.result()

    async def reload(self, key: VersionId, models: list[str], reason: str) -> str | None:
        """Take a version out at once, load some of its Triton models anew, and put it back once it is proven.

        Returns:
            Why it is still out; None: it is served, or is no longer there.
        """
        if key in self.entries and key not in self._tasks:
            self._take_out(key, reason)
        async with self._locks[key[0]]:
            if key not in self.entries:  # refused or retired meanwhile
                return None
            self._take_out(key, reason)
            entry = self.entries[key]
            refused = await self._bring_back(entry, models)
            if key not in self.entries:
                return None
            if refused is not None:
                self._unloaded.add(key)
                self.tell()
                return await self._withdraw(entry, refused)
            self.out.pop(key, None)
            self._proven.add(key)
            self._served.add(key)
            self.tell()
        logger.warning(logfmt(event="put-back", model=key[0], version=key[1]))
        return None

    def _take_out(self, key: VersionId, reason: str) -> None:
        self._unloaded.add(key)
        if key not in self.out:
            self.out[key] = RESTARTING
            logger.error(logfmt(event="taken-out", model=key[0], version=key[1], reason=reason))
        self.tell()

    async def _bring_back(self, entry: ModelVersion, models: list[str]) -> Rejected | None:
        key = entry.name, entry.version
        for part in reversed(entry.parts()):
            if part.name not in models and not self._staging.is_aside(part.name, entry.version):
                continue
            if problem := await self._loader.load_anew(part.name, entry.version):
                return Rejected(name=entry.name, version=entry.version, reason=problem, transient=True)
        self._loads[key] += 1
        self._unloaded.discard(key)
        return await self._proof(key)

    async def _withdraw(self, entry: ModelVersion, refused: Rejected) -> str:
        """Have Triton unload a version that is still out: calls that go to Triton itself would get its images too.

        Returns:
            Why it is out.
        """
        # A Triton that is away loads it when it is back, unless it is known to be wrong: then it is soonest well.
        if refused.transient and not await self._loader.is_live():
            return refused.reason
        problem = await self._loader.withdraw(entry)
        return f"{refused.reason} Triton may still have it: {problem}" if problem else refused.reason

    async def _add(self, key: VersionId) -> None:
        """Stage a new version, load it, have it proven, and make it the default if nothing else is pinned."""
        name, version = key
        async with self._one_add_at_a_time, self._locks[name]:
            self._arrivals.begin(key)
            outcome = await self._try(key)
            if isinstance(outcome, Rejected):
                return self._refuse(outcome)
            self._proven.add(key)
            self._served.add(key)
            self.rejected.pop(key, None)
            self._arrivals.settle(key)
            self.tell()
        event = "published" if self.default(name) == version else "published-not-default"
        logger.warning(logfmt(event=event, model=name, version=version, digest=outcome.digest))
        return None

    async def _try(self, key: VersionId) -> ModelVersion | Rejected:
        """Stage a version, load it and have it proven; one that is rejected leaves nothing behind."""
        name, version = key
        try:
            entry = await asyncio.to_thread(self._staging.add, name, version)
        except (StagingError, OSError) as error:
            return Rejected(name=name, version=version, reason=str(error), transient=True)
        if isinstance(entry, Rejected):
            return entry
        if reason := await self._loader.load_parts(entry):
            rejected: Rejected | None = Rejected(name=name, version=version, reason=reason, transient=True)
        else:
            self.entries[key], self._loads[key] = entry, self._loads.get(key, 0) + 1
            rejected = await self._proof(key)
        if rejected is not None:
            await self._drop(entry, refused=True)
        return rejected or entry

    def _refuse(self, rejected: Rejected) -> None:
        key = rejected.name, rejected.version
        self.rejected[key] = rejected
        fields: dict[str, Any] = {"model": key[0], "version": key[1], "kept": self.default(key[0])}
        if rejected.transient:
            fields["retry_s"] = self._arrivals.fail(key)
        else:
            self._arrivals.settle(key)
        logger.error(logfmt(event="refused", **fields, reason=rejected.reason))

    def _retire(self, key: VersionId) -> None:
        """Stop serving a version that is no longer in the repository; calls that have it go on for a while."""
        logger.warning(logfmt(event="retired", model=key[0], version=key[1]))
        entry = self.entries[key]
        self._forget(key)
        self._arrivals.forget(key)
        gone = Rejected(name=key[0], version=key[1], reason="it has left the repository.")
        self.on_verdict(key, self._loads[key], gone)  # nobody proves it any more
        self._begin(key, self._drop_later(entry))

    async def _drop_later(self, entry: ModelVersion) -> None:
        await asyncio.sleep(self._retire_s)
        async with self._locks[entry.name]:
            await self._drop(entry)

    async def _drop(self, entry: ModelVersion, *, refused: bool = False) -> None:
        """Forget a version, and have Triton unload it."""
        self._forget((entry.name, entry.version))
        await self._loader.drop(entry, refused=refused)

    def _forget(self, key: VersionId) -> None:
        self.entries.pop(key, None)
        self._proven.discard(key)
        self._served.discard(key)
        self._unloaded.discard(key)
        self.out.pop(key, None)
        self.tell()

    async def _proof(self, key: VersionId) -> Rejected | None:
        """Let the service prove a version that Triton has loaded; why it refuses it."""
        if key not in self.entries:
            return None
        loads = self._loads[key]
        verdict: asyncio.Future[Rejected | None] = asyncio.get_running_loop().create_future()
        self._verdicts[key, loads] = verdict
        self.tell()
        try:
            return await asyncio.wait_for(verdict, self._load_s)
        except TimeoutError:
            reason = f"the service did not prove it within {self._load_s:g} s."
            return Rejected(name=key[0], version=key[1], reason=reason, transient=True)
        finally:
            del self._verdicts[key, loads]

    def _reason(self, key: VersionId) -> str:
        if key in self.entries:
            return "its images were not as certified."
        if (self._source / key[0] / str(key[1])).is_dir():
            return "it is not loaded yet."
        return "it is not in the repository."

    def _tell_pins(self) -> None:
        """Log each pin that cannot be kept, once."""
        told = {name: reason for (name, _), reason in self.pins_not_kept().items()}
        for name, reason in told.items():
            if reason != self._told.get(name):
                fields = {"model": name, "version": self._pins[name], "reason": reason, "remedy": remedy(name)}
                logger.error(logfmt(event="pin-not-kept", **fields))
        self._told = told
