"""Which versions are served: what is in the repository, as far as Triton has loaded it and the service proven it.

A version that appears in the repository is staged, loaded beside the others, proven by the service, and only then
what an empty version means. One that fails anywhere on the way is refused, and what was served stays. One that is
deleted from the repository is retired, unless it is the last or pinned. A pinned version that cannot be served leaves
the model without a default: the newer one that an operator went back from must not come back by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ganvas_core.names import companions
from serving.repository.pins import PINS_FILE, read_pins, remedy
from serving.repository.reader import ModelVersion, Rejected, Repository, RepositoryError, list_versions
from serving.service.inference.wanted import VersionId, Wanted
from serving.service.logs import logfmt
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
        self.changing: set[str] = set()
        """Triton models that are being loaded or unloaded: their processes may end."""
        self._source = source
        self._staging = staging
        self._triton = triton
        self._service = service
        self._load_s = load_s
        self._retire_s = retire_s
        self._direct = direct
        self._loads = dict.fromkeys(self.entries, 1)
        self._proven = set(self.entries)
        self.pins_ok = True
        """Whether the pins in use are those of the file as it is now."""
        self._pins_told: object = None
        """The file and the error that were logged last; None while the file is in use."""
        self._pins = self._read_pins({})
        self._told: dict[str, str] = {}
        """What was last logged of the pin of a model."""
        self._seen = {key: self._fingerprint(key) for key in (*self.entries, *self.rejected)}
        self._verdicts: dict[tuple[VersionId, int], asyncio.Future[str | None]] = {}
        self._one_at_a_time = asyncio.Lock()

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
        """The service has proven what it could of what was wanted when it started."""
        served = {(model["name"], model["version"]) for model in models}
        for key in set(self.wanted().versions) - served:
            self._proven.discard(key)
        self.tell()
        self._tell_pins()

    def on_verdict(self, key: VersionId, loads: int, reason: str | None) -> None:
        """The service has proven a version, or refused it for a reason."""
        verdict = self._verdicts.get((key, loads))
        if verdict is not None and not verdict.done():
            verdict.set_result(reason)

    def tell(self) -> None:
        """Let the service and the gateway know what is wanted."""
        wanted = self.wanted()
        self._service.command("serve", **wanted.to_command())
        self._direct(wanted.defaults)

    async def follow(self) -> None:
        """Follow the repository. Never returns."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._follow_once()
            except (RepositoryError, OSError) as error:
                logger.error(logfmt(event="repository-not-followed", reason=str(error)))

    async def _follow_once(self) -> None:
        pins = self._read_pins(self._pins)  # first, so that a version that is published and then pinned is there
        there_is = dict.fromkeys(await asyncio.to_thread(lambda: list(list_versions(self._source))))
        for key in there_is:
            seen = self._fingerprint(key)
            if key not in self.entries and self._seen.get(key) != seen:
                self._seen[key] = seen
                await self._add(key)
        if pins != self._pins:
            self._pins = pins
            self.tell()
            for name in self.names():
                logger.warning(logfmt(event="default", model=name, version=self.default(name)))
        for key in set(self.entries) - set(there_is):
            others = any(other in self._proven for other in there_is if other[0] == key[0])
            if others and not (key in self._proven and self._pins.get(key[0]) == key[1]):
                await self._retire(key)
        self._tell_pins()

    async def reload(self, key: VersionId, models: list[str], reason: str) -> str | None:
        """Take a version out at once, load some of its Triton models anew, and put it back once it is proven.

        Returns:
            Why it is still out; None: it is served.
        """
        self.out[key] = RESTARTING
        self._unloaded.add(key)
        self.tell()
        logger.error(logfmt(event="taken-out", model=key[0], version=key[1], reason=reason))
        async with self._one_at_a_time:
            for model in models:
                if problem := await self._load_anew(model, key[1]):
                    return problem
            self._loads[key] += 1
            self._unloaded.discard(key)
            if problem := await self._proof(key):
                self._unloaded.add(key)
                self.tell()
                return problem
            self.out.pop(key, None)
            self._proven.add(key)
            self.tell()
        logger.warning(logfmt(event="put-back", model=key[0], version=key[1]))
        return None

    async def _add(self, key: VersionId) -> None:
        """Stage a new version, load it, have it proven, and make it the default if nothing else is pinned."""
        name, version = key
        async with self._one_at_a_time:
            try:
                outcome = await asyncio.to_thread(self._staging.add, name, version)
            except StagingError as error:
                outcome = Rejected(name=name, version=version, reason=str(error))
            if isinstance(outcome, Rejected):
                return self._refuse(outcome)
            reason = None
            for part in reversed(outcome.parts()):
                reason = reason or await self._load(part.name)
            if reason is None:
                self.entries[key], self._loads[key] = outcome, self._loads.get(key, 0) + 1
                reason = await self._proof(key)
            if reason is not None:
                await self._drop(outcome)
                return self._refuse(Rejected(name=name, version=version, reason=reason))
            self._proven.add(key)
            self.rejected.pop(key, None)
            self.tell()
        event = "published" if self.default(name) == version else "published-not-default"
        logger.warning(logfmt(event=event, model=name, version=version, digest=outcome.digest))
        return None

    def _refuse(self, rejected: Rejected) -> None:
        self.rejected[rejected.name, rejected.version] = rejected
        kept = self.default(rejected.name)
        logger.error(
            logfmt(event="refused", model=rejected.name, version=rejected.version, kept=kept, reason=rejected.reason)
        )

    async def _retire(self, key: VersionId) -> None:
        """Stop serving a version that is no longer in the repository; calls that have it go on for a while."""
        logger.warning(logfmt(event="retired", model=key[0], version=key[1]))
        entry = self.entries.pop(key)
        self._proven.discard(key)
        self._seen.pop(key, None)
        self.tell()
        await asyncio.sleep(self._retire_s)
        async with self._one_at_a_time:
            await self._drop(entry)

    async def _drop(self, entry: ModelVersion) -> None:
        """Forget a version, and have Triton unload it."""
        key = entry.name, entry.version
        self.entries.pop(key, None)
        self._proven.discard(key)
        self._unloaded.discard(key)
        self.out.pop(key, None)
        self.tell()
        self._staging.remove(entry)
        left = self._staging.loadable()
        for part in entry.parts():
            await (self._load(part.name) if part.name in left else self._unload(part.name))

    async def _proof(self, key: VersionId) -> str | None:
        """Let the service prove a version that Triton has loaded; why it refuses it."""
        verdict: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._verdicts[key, self._loads[key]] = verdict
        self.tell()
        try:
            return await asyncio.wait_for(verdict, self._load_s)
        except TimeoutError:
            return f"the service did not prove it within {self._load_s:g} s."
        finally:
            del self._verdicts[key, self._loads[key]]

    async def _load_anew(self, model: str, version: int) -> str | None:
        """Load one version of a Triton model into a new process; the others stay."""
        folder = self._staging.models / model
        others = [entry for entry in folder.glob("[0-9]*") if entry.name != str(version)]
        if others:
            self._staging.set_aside(model, version)
            problem = await self._load(model)
            self._staging.put_back(model, version)
        else:
            problem = await self._unload(model)
        return problem or await self._load(model)

    async def _load(self, model: str) -> str | None:
        with self._changes(model):
            return await asyncio.to_thread(self._control, "load", model)

    async def _unload(self, model: str) -> str | None:
        with self._changes(model):
            return await asyncio.to_thread(self._control, "unload", model)

    def _control(self, verb: str, model: str) -> str | None:
        try:
            http = self._triton.http
            return (http.load if verb == "load" else http.unload)(model, self._load_s)
        except (OSError, HTTPException) as error:
            return f"Triton did not {verb} {model}: {error}"

    @contextmanager
    def _changes(self, model: str) -> Iterator[None]:
        self.changing.add(model)
        try:
            yield
        finally:
            self.changing.discard(model)

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

    def _read_pins(self, otherwise: dict[str, int]) -> dict[str, int]:
        """What the file says, or what is given; a file that cannot be read is logged once for each change of it."""
        try:
            status = (self._source / PINS_FILE).stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            seen = None
        try:
            pins = read_pins(self._source)
        except RepositoryError as error:
            self.pins_ok = False
            told = (seen, str(error))
            if told != self._pins_told:
                logger.error(logfmt(event="pins-unreadable", reason=str(error)))
            self._pins_told = told
            return otherwise
        if self._pins_told is not None:
            logger.warning(logfmt(event="pins-readable"))
        self.pins_ok, self._pins_told = True, None
        return pins

    def _fingerprint(self, key: VersionId) -> tuple[Any, ...]:
        """Changes when a file of a version does: a version that was rejected while it was copied is tried again."""
        found = []
        for model in (key[0], *companions(key[0])):
            for path in sorted((self._source / model / str(key[1])).glob("*")):
                try:
                    status = path.stat()
                except OSError:
                    continue
                found.append((model, path.name, status.st_size, status.st_mtime_ns))
        return tuple(found)
