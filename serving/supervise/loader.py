"""Has Triton load and unload what is staged."""

from __future__ import annotations

import asyncio
from http.client import HTTPException

from serving.repository.reader import ModelVersion
from serving.supervise.staging import Staging
from serving.supervise.threads import in_own_thread
from serving.supervise.triton_part import TritonPart

__all__ = ["Loader"]


class Loader:
    """One run's. Only one call at a time may concern a model.

    Args:
        load_s: how long Triton gets for one Triton model.
    """

    def __init__(self, staging: Staging, triton: TritonPart, *, load_s: float) -> None:
        self._staging = staging
        self._triton = triton
        self._load_s = load_s

    async def is_live(self) -> bool:
        """Whether Triton answers."""
        return bool(await asyncio.to_thread(self._triton.http.is_live))

    async def load_parts(self, entry: ModelVersion) -> str | None:
        """Load a version that was just staged, the sampler last; why that failed."""
        for part in reversed(entry.parts()):
            if problem := await self._load(part.name):
                return problem
        return None

    async def load_anew(self, model: str, version: int) -> str | None:
        """Load one version of a Triton model into a new process; the others stay. Why that failed."""
        folder = self._staging.models / model
        others = [entry for entry in folder.glob("[0-9]*") if entry.name != str(version)]
        try:
            if others:
                self._staging.set_aside(model, version)
                problem = await self._load(model)
            else:
                problem = await self._unload(model)
            self._staging.put_back(model, version)
        except OSError as error:  # a full disk: it passes, and so must not end the healing
            return f"{model} version {version} could not be moved: {error}"
        return problem or await self._load(model)

    async def withdraw(self, entry: ModelVersion) -> str | None:
        """Have Triton unload a version, and not load it again before `load_anew`. Why it may still be loaded."""
        problem = None
        for part in entry.parts():
            try:
                self._staging.set_aside(part.name, entry.version)
            except OSError as error:
                problem = f"{part.name} version {entry.version} could not be moved: {error}"
        return await self._unload_missing(entry) or problem

    async def drop(self, entry: ModelVersion, *, refused: bool = False) -> None:
        """Delete the copy of a version, and have Triton unload it.

        Args:
            refused: as of `Staging.remove`.
        """
        self._staging.remove(entry, refused=refused)
        await self._unload_missing(entry)

    async def _unload_missing(self, entry: ModelVersion) -> str | None:
        """Have Triton unload what is no longer staged where it looks. Why that failed."""
        left = self._staging.loadable()
        problems = [
            await (self._load(part.name) if part.name in left else self._unload(part.name)) for part in entry.parts()
        ]
        return next(filter(None, problems), None)

    async def _load(self, model: str) -> str | None:
        return await in_own_thread(self._control, "load", model)

    async def _unload(self, model: str) -> str | None:
        return await in_own_thread(self._control, "unload", model)

    def _control(self, verb: str, model: str) -> str | None:
        try:
            http = self._triton.http
            return (http.load if verb == "load" else http.unload)(model, self._load_s)
        except (OSError, HTTPException) as error:
            return f"Triton did not {verb} {model}: {error}"
