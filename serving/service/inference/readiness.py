"""Proof before service: a version is served once Triton has re-made its golden answers on this machine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ganvas_core.certificate import Certificate
from ganvas_core.cli import UserError
from ganvas_core.interface import joined
from ganvas_core.names import Role
from ganvas_core.requests.plans import slices
from serving.options import ServeOptions
from serving.repository.golden import GoldenMismatchError, compare_golden, golden_inputs
from serving.repository.reader import ModelVersion, Rejected, Repository
from serving.service.errors import ServiceError, UnavailableError
from serving.service.inference.catalog import ServedModel
from serving.service.inference.triton_client import POLL_S, Deadline, TritonClient
from serving.service.logs import logfmt

__all__ = ["NothingToServeError", "Proven", "log_outcome", "prepare", "prove"]

Golden = Literal["exact", "equivalent"]

logger = logging.getLogger("ganvas.service")


class NothingToServeError(UserError):
    """Triton was not ready in time, or no version passed."""


@dataclass(frozen=True, kw_only=True)
class Proven:
    """What may be served, and what may not."""

    served: tuple[ServedModel, ...]
    rejected: tuple[Rejected, ...]


async def prepare(repository: Repository, triton: TritonClient, options: ServeOptions) -> Proven:
    """Wait for Triton and prove every version of the repository, which may have none.

    A version that fails is logged and left out; the others are served.

    Raises:
        NothingToServeError: Triton was not ready within start_s.
    """
    try:
        async with asyncio.timeout(options.start_s):
            outcomes = await _prove_all(repository, triton, options)
    except TimeoutError:
        raise NothingToServeError(
            f"Triton at {triton.address} was not ready within {options.start_s:g} s. Its log says why. A slow "
            "machine or a TensorRT build needs a longer --start-s."
        ) from None
    served = [outcome for outcome in outcomes if isinstance(outcome, ServedModel)]
    rejected = repository.rejected + tuple(outcome for outcome in outcomes if isinstance(outcome, Rejected))
    for model in served:
        log_outcome(model)
    for entry in rejected:
        log_outcome(entry)
    return Proven(served=tuple(served), rejected=rejected)


async def prove(entry: ModelVersion, triton: TritonClient, options: ServeOptions) -> ServedModel | Rejected:
    """Prove one version that Triton has just loaded."""
    outcome = await _try(entry, triton, options, {})
    log_outcome(outcome)
    return outcome


def log_outcome(outcome: ServedModel | Rejected) -> None:
    """One line for a version that was proven or rejected."""
    if isinstance(outcome, Rejected):
        logger.error(logfmt(event="rejected", model=outcome.name, version=outcome.version, reason=outcome.reason))
    else:
        digest = outcome.entry.digest
        logger.info(
            logfmt(event="ready", model=outcome.name, version=outcome.version, golden=outcome.golden, digest=digest)
        )


async def _prove_all(
    repository: Repository, triton: TritonClient, options: ServeOptions
) -> list[ServedModel | Rejected]:
    """The outcome for each version. Starts again if Triton disappears meanwhile."""
    while True:
        not_ready = await triton.wait_settled()
        outcomes = [await _try(entry, triton, options, not_ready) for entry in repository.versions]
        if await triton.is_live() is not False:
            return outcomes
        await asyncio.sleep(POLL_S)


async def _try(
    entry: ModelVersion, triton: TritonClient, options: ServeOptions, not_ready: Mapping[tuple[str, str], str]
) -> ServedModel | Rejected:
    for part in entry.parts():
        for version in (str(entry.version), ""):
            if reason := not_ready.get((part.name, version)):
                # The lines below the first are a traceback, which triton.log has too.
                reason = f"Triton did not load {part.name}: {reason.splitlines()[0]}"
                return Rejected(name=entry.name, version=entry.version, reason=reason, transient=True)
    try:
        # Make the golden images from their seeds, and again from their latents; then their posteriors.
        made: dict[Role, NDArray[Any]] = {}
        image_s = 0.0
        for part in entry.parts():
            if entry.golden(part.role):
                inputs = await asyncio.to_thread(golden_inputs, entry, part.role)
                begin_s = time.perf_counter()
                answers = made[part.role] = await _make(triton, part, entry, inputs)
                image_s = image_s or (time.perf_counter() - begin_s) / len(answers)  # the sampler's, which is first
        results = {compare_golden(entry, answers, role) for role, answers in made.items()}
        golden: Golden = "exact" if results == {"exact"} else "equivalent"
        instances = {part.name: await triton.num_instances(part.name, entry.version) for part in entry.parts()}
    except (GoldenMismatchError, ServiceError) as error:
        transient = isinstance(error, ServiceError)
        return Rejected(name=entry.name, version=entry.version, reason=str(error), transient=transient)
    return ServedModel(entry=entry, golden=golden, options=options, instances=instances, image_s=image_s)


async def _make(
    triton: TritonClient, part: Certificate, entry: ModelVersion, inputs: dict[str, NDArray[Any]]
) -> NDArray[Any]:
    """[G, ...]: what a part of the version makes of golden inputs."""
    outputs = part.interface.outputs
    names = [output.name for output in outputs]
    count, size = len(next(iter(inputs.values()))), min(each.max_batch_size for each in entry.parts())
    raw = [b"" for _ in outputs]
    for start, stop in slices(count, size):
        batch = {name: array[start:stop] for name, array in inputs.items()}
        answer = await triton.infer(part.name, entry.version, batch, names, Deadline())
        raw = [so_far + more for so_far, more in zip(raw, answer, strict=True)]
    try:
        arrays = [np.frombuffer(data, output.dtype) for data, output in zip(raw, outputs, strict=True)]
        return joined([array.reshape(count, *output.dims) for array, output in zip(arrays, outputs, strict=True)])
    except ValueError:
        sizes = " and ".join(str(len(data)) for data in raw)
        raise UnavailableError(f"Triton gave {sizes} bytes for {count} golden answers of {part.name}.") from None
