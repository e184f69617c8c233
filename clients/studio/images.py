"""Single images from the service, many in one call.

One-image requests that are waiting at the same moment become one call of the service, which costs little more than a
call for one of them. Up to MAX_CALLS such calls run for a kind of request; what comes meanwhile waits for the next.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from clients.studio.addresses import LatentImage, Reference, SeedImage, latent_array
from clients.studio.catalog import CALLER
from clients.studio.problems import BusyError
from ganvas_client import AsyncSampler, GanvasError, Images, InvalidArgumentError
from ganvas_core.formats import FileFormat

__all__ = ["Imager"]

MAX_CALLS = 4
MAX_BATCH = 64
MAX_WAITING = 4096
TIMEOUT_S = 30.0

Request = SeedImage | LatentImage


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What requests have in common that may go in one call."""

    caller: str | None
    reference: Reference
    truncation: np.float32 | None
    """None: of latents."""
    latent_shape: tuple[int, ...]
    labelled: bool
    format: FileFormat


@dataclass(kw_only=True)
class _Queue:
    waiting: list[tuple[Request, asyncio.Future[bytes]]]
    num_calls: int = 0
    scheduled: bool = False


class Imager:
    """The files of single images."""

    def __init__(self, sampler: AsyncSampler) -> None:
        self._sampler = sampler
        self._queues: dict[_Kind, _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._num_waiting = 0

    async def image(self, request: Request, latent_shape: tuple[int, ...] = ()) -> bytes:
        """The file of one image, whose reference is pinned, asked for as CALLER.

        Args:
            latent_shape: of a LatentImage.
        Raises:
            GanvasError: the service refuses it, or the studio is busy.
        """
        if self._num_waiting >= MAX_WAITING:
            raise BusyError(f"{MAX_WAITING} images are waiting already. Retry in 1 s.")
        kind = _Kind(
            caller=CALLER.get(),
            reference=request.reference,
            truncation=request.truncation if isinstance(request, SeedImage) else None,
            latent_shape=latent_shape,
            labelled=request.label is not None,
            format=request.format,
        )
        made: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(kind, _Queue(waiting=[]))
        queue.waiting.append((request, made))
        self._num_waiting += 1
        self._schedule(kind, queue)
        return await made

    def _schedule(self, kind: _Kind, queue: _Queue) -> None:
        """Send what is waiting, after everything that arrives in the same turn of the loop has joined it."""
        if queue.waiting and not queue.scheduled and queue.num_calls < MAX_CALLS:
            queue.scheduled = True
            asyncio.get_running_loop().call_soon(self._send, kind, queue)

    def _send(self, kind: _Kind, queue: _Queue) -> None:
        queue.scheduled = False
        taken, queue.waiting = queue.waiting[:MAX_BATCH], queue.waiting[MAX_BATCH:]
        self._num_waiting -= len(taken)
        batch = [(request, made) for request, made in taken if not made.done()]  # who asked may have left
        if not batch:
            self._schedule(kind, queue)
            return
        queue.num_calls += 1
        task = asyncio.create_task(self._make(kind, batch))
        self._tasks.add(task)

        def done(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            queue.num_calls -= 1
            self._schedule(kind, queue)
            if not queue.waiting and not queue.num_calls:
                self._queues.pop(kind, None)

        task.add_done_callback(done)
        self._schedule(kind, queue)

    async def _make(self, kind: _Kind, batch: list[tuple[Request, asyncio.Future[bytes]]]) -> None:
        CALLER.set(kind.caller)
        try:
            images = await self._call(kind, [request for request, _ in batch])
        except InvalidArgumentError as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            # One of them is wrong: each gets its own answer.
            for entry in batch:
                await self._make(kind, [entry])
        except (GanvasError, asyncio.CancelledError) as error:
            _fail(batch, error)
        except Exception as error:
            _fail(batch, error)
            raise
        else:
            for (_, made), data in zip(batch, images.bytes, strict=True):
                if not made.done():
                    made.set_result(data)

    async def _call(self, kind: _Kind, requests: list[Request]) -> Images:
        labels = [request.label for request in requests if request.label is not None] or None
        name, digest = kind.reference.name, kind.reference.digest
        if kind.truncation is None:
            latents = [latent_array(request.latent) for request in requests if isinstance(request, LatentImage)]
            array = np.stack(latents).reshape(-1, *kind.latent_shape)
            return await self._sampler.decode(
                name, array, labels=labels, format=kind.format, digest=digest, timeout_s=TIMEOUT_S
            )
        return await self._sampler.sample(
            name,
            [request.seed for request in requests if isinstance(request, SeedImage)],
            labels=labels,
            truncation=float(kind.truncation),
            format=kind.format,
            digest=digest,
            timeout_s=TIMEOUT_S,
        )


def _fail(batch: list[tuple[Request, asyncio.Future[bytes]]], error: BaseException) -> None:
    for _, made in batch:
        if not made.done():
            made.set_exception(error)
            made.exception()  # whoever asked may be gone, which is no unhandled error
