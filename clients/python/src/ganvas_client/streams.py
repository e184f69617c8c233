"""A stream that breaks off goes on with the images that have not arrived, from the same version and digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ganvas.v1 import sampler_pb2
from ganvas_client import replies
from ganvas_client.errors import InternalError
from ganvas_client.results import Image

__all__ = ["Progress", "num_images"]


class Progress:
    """Which images of a stream have arrived, and the request for the others.

    Args:
        request: a SampleRequest or a WalkRequest.
    """

    def __init__(self, request: Any) -> None:
        self.request = request
        """What to send next."""
        self._asked = request
        self.num_images = num_images(request)
        self._next = 0
        """Every image before this one has arrived."""
        self._ahead: set[int] = set()
        """Those that have arrived besides: a few batches, since batches finish nearly in order."""
        self._offset = 0
        """Index 0 of the request that was sent last is this one of the stream."""

        self._pinned: tuple[str, str] | None = None
        """Version and digest of the first reply."""

    @property
    def done(self) -> bool:
        return self._next >= max(1, self.num_images)  # a request for none is wrong, and its error must be heard

    def take(self, reply: Any, request_id: str) -> Iterator[Image]:
        """The images of a reply that are new.

        Raises:
            FailedPreconditionError: they are of another digest than before, or than the caller pins.
        """
        wanted = self._asked.digest if self._pinned is None else self._pinned[1]
        replies.check_digest(wanted, reply.info.digest)
        if self._offset:
            for message in reply.images:
                message.index += self._offset
        return self.take_images(replies.images(reply, request_id))

    def take_images(self, images: Iterable[Image]) -> Iterator[Image]:
        """Those that are new."""
        for image in images:
            if image.index < self._next or image.index in self._ahead:
                continue
            self._pinned = image.info.version, image.info.digest
            self._ahead.add(image.index)
            while self._next in self._ahead:
                self._ahead.remove(self._next)
                self._next += 1
            yield image

    def resume(self) -> None:
        """Let `request` ask for what has not arrived: everything from the first missing image on."""
        if self._pinned is None:  # nothing has
            return
        missing = type(self._asked)()
        missing.CopyFrom(self._asked)
        missing.version, missing.digest = self._pinned
        if isinstance(missing, sampler_pb2.WalkRequest):
            missing.first_frame += self._next  # the numbers of its frames stay
        else:
            _leave_out(missing, self._next)
            self._offset = self._next
        self.request = missing

    def finish(self) -> None:
        """Check that nothing is missing, now that the stream has ended well.

        Raises:
            InternalError: something is.
        """
        if not self.done:
            raise InternalError(f"the stream ended at image {self._next} of {self.num_images}.")


def num_images(request: Any) -> int:
    """How many images answer a request; if the request is wrong, the service says so."""
    if isinstance(request, sampler_pb2.WalkRequest):
        seeds = len(request.seeds)
        return seeds * request.steps if request.loop else (seeds - 1) * request.steps + 1
    return len(request.seeds) or request.range.count


def _leave_out(request: sampler_pb2.SampleRequest, count: int) -> None:
    """Drop the first images of a SampleRequest."""
    if request.HasField("range"):
        request.range.first += count
        request.range.count -= count
    else:
        del request.seeds[:count]
    if len(request.labels) > 1:  # one is for all
        del request.labels[:count]
