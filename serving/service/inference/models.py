"""The versions that are served: what the supervisor wants, as far as it is proven."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from ganvas_core.certificate import CertificateError
from ganvas_core.names import companions
from serving.options import ServeOptions
from serving.repository.reader import ModelVersion, Rejected, Repository, RepositoryError, read_version
from serving.service.inference.catalog import Catalog, ServedModel
from serving.service.inference.dispatch import Dispatcher
from serving.service.inference.readiness import NothingToServeError, prepare, prove
from serving.service.inference.triton_client import TritonClient
from serving.service.inference.wanted import VersionId, Wanted

__all__ = ["Models", "read_wanted"]

REFUSED = "did not make its golden images and is being tried again"

Outcome = tuple[VersionId, int, ServedModel | Rejected]
"""Of one proof, with the number of the load."""


class Models:
    """Follows what is wanted: what goes, goes at once; what comes is proven first.

    Args:
        repository: the versions at the start. All of them are wanted until `want` says otherwise.
        publish: takes each new catalog.
    """

    def __init__(
        self,
        repository: Repository,
        triton: TritonClient,
        options: ServeOptions,
        *,
        dispatcher: Dispatcher,
        publish: Callable[[Catalog], None],
    ) -> None:
        self._triton = triton
        self._options = options
        self._dispatcher = dispatcher
        self._publish = publish
        self._folder = repository.folder
        self._entries = {(entry.name, entry.version): entry for entry in repository.versions}
        self._rejected = repository.rejected
        self._wanted = Wanted(versions=dict.fromkeys(self._entries, 1))
        self._proven: dict[VersionId, ServedModel] = {}
        self._tried: dict[VersionId, int] = {}
        """To the load that was proven or refused."""
        self._lost: set[VersionId] = set()
        """Those that were served, and were refused when Triton was back: the supervisor heals them."""
        self._unreported: list[Outcome] = []
        """What get_ready has found."""
        self._started = False
        self._changed = asyncio.Event()

    async def get_ready(self) -> tuple[Rejected, ...]:
        """Wait for Triton, prove every wanted version, and publish them; `follow` reports each outcome.

        Returns:
            Those that were refused, now or when they were read.
        Raises:
            NothingToServeError: Triton was not ready in time; or, the first time, no version gave its golden images.
        """
        wanted = self._wanted.versions
        entries = tuple(entry for key, entry in self._entries.items() if key in wanted)
        repository = Repository(folder=self._folder, versions=entries, rejected=self._rejected)
        proven = await prepare(repository, self._triton, self._options)
        if proven.rejected and not proven.served and not self._started:
            reason = proven.rejected[0].reason
            raise NothingToServeError(f"no model can be served: {len(proven.rejected)} rejected. The first: {reason}")
        self._started = True
        outcomes: dict[VersionId, ServedModel | Rejected] = {(it.name, it.version): it for it in proven.rejected}
        outcomes |= {(model.name, model.version): model for model in proven.served}
        for key in ((entry.name, entry.version) for entry in entries):
            if self._tried.get(key, 0) <= wanted[key]:  # else `follow` has tried a later load meanwhile
                self._settle(key, wanted[key], outcomes[key])
                self._unreported.append((key, wanted[key], outcomes[key]))
        self._update()
        self._changed.set()  # what was wanted meanwhile is not proven by this
        return proven.rejected

    def want(self, wanted: Wanted) -> None:
        """Serve something else from now on. New calls for a version that is out fail at once; accepted ones wait."""
        self._wanted = wanted
        self._update()
        self._changed.set()

    async def follow(self) -> AsyncGenerator[Outcome, None]:
        """Prove what `want` adds, and publish it; yields each outcome, and those of `get_ready`. Never ends."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._unreported:
                yield self._unreported.pop(0)
            for key, loads in self._wanted.versions.items():
                if self._tried.get(key) == loads:
                    continue
                outcome = await self._prove(key)
                self._settle(key, loads, outcome)
                self._update()
                yield key, loads, outcome
                if self._changed.is_set():  # what is wanted is another thing now
                    break

    def _settle(self, key: VersionId, loads: int, outcome: ServedModel | Rejected) -> None:
        was_served = self._proven.pop(key, None) is not None
        self._tried[key] = loads
        if isinstance(outcome, ServedModel):
            self._proven[key], self._entries[key] = outcome, outcome.entry
            self._lost.discard(key)
        elif was_served:
            self._lost.add(key)

    async def _prove(self, key: VersionId) -> ServedModel | Rejected:
        entry = await asyncio.to_thread(_read, self._options, key)
        return entry if isinstance(entry, Rejected) else await prove(entry, self._triton, self._options)

    def _update(self) -> None:
        """Let calls see what is both wanted and proven, and keep their batches from a load that is not proven yet.

        Which lanes are paused follows from the state alone, so that no order of events leaves one paused for ever.
        """
        wanted = self._wanted
        out = {key: REFUSED for key in self._lost if key in wanted.versions} | dict(wanted.out)
        for key in {**wanted.versions, **out}:
            waiting = key in out or self._tried.get(key) != wanted.versions[key]
            for model in (key[0], *companions(key[0])):
                if waiting:
                    self._dispatcher.pause(model, key[1])
                else:
                    self._dispatcher.resume(model, key[1])
        models = [
            model
            for key, model in self._proven.items()
            if self._tried[key] == wanted.versions.get(key) and key not in out
        ]
        self._publish(Catalog(models, defaults=wanted.defaults, out=out))


def read_wanted(options: ServeOptions, wanted: Wanted) -> Repository:
    """The wanted versions, checked against their certificates."""
    outcomes = [_read(options, key) for key in wanted.versions]
    return Repository(
        folder=options.repository,
        versions=tuple(outcome for outcome in outcomes if isinstance(outcome, ModelVersion)),
        rejected=tuple(outcome for outcome in outcomes if isinstance(outcome, Rejected)),
    )


def _read(options: ServeOptions, key: VersionId) -> ModelVersion | Rejected:
    try:
        return read_version(options.repository, *key, options.config_name)
    except (CertificateError, RepositoryError, OSError) as error:
        return Rejected(name=key[0], version=key[1], reason=str(error), transient=isinstance(error, OSError))
