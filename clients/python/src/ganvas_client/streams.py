"""A stream that breaks off goes on with the images that have not arrived, from the same version and digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ganvas.v1 import sampler_pb2
from ganvas_client import replies
from ganvas_client.errors import InternalError
from ganvas_client.results import Image
from ganvas_core.work import work_of

__all__ = ["Progress", "num_images", "work"]

LARGEST_PART = 2**20
"""Images of one request, if the service takes as many: listed seeds and labels fit into a message of 64 MiB."""


class Progress:
    """Which images of a stream have arrived, and the request for the others.

    Args:
        request: a SampleRequest or a WalkRequest.
        most: images of a SampleRequest that the service takes in one stream: it is asked for more in parts. None: all.
    """

    def __init__(self, request: Any, most: int | None = None) -> None:
        self.request = request
        """What to send next."""
        self._asked = request
        self.num_images = num_images(request)
        self._most = self.num_images if most is None else min(most, LARGEST_PART)
        self._next = 0
        """Every image before this one has arrived."""
        self._ahead: set[int] = set()
        """Those that have arrived besides: a few batches, since batches finish nearly in order."""
        self._offset = 0
        """Index 0 of the request that was sent last is this one of the stream."""

        self._pinned: tuple[str, str] | None = None
        """Version and digest of the first reply."""
        if self.num_images > self._most:
            self.request = self._part()

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
        self.request = self._part()
        self.request.version, self.request.digest = self._pinned
        if not isinstance(self.request, sampler_pb2.WalkRequest):
            self._offset = self._next

    def finish(self) -> bool:
        """Whether everything has arrived, now that a stream has ended well. If not, `request` asks for the next part.

        Raises:
            InternalError: something of what was asked for is missing.
        """
        if self.done:
            return True
        if self._next < self._offset + max(1, min(self._most, self.num_images - self._offset)):
            raise InternalError(f"the stream ended at image {self._next} of {self.num_images}.")
        self.resume()
        return False

    def _part(self) -> Any:
        """A request for what has not arrived, or for as much of it as the service takes in one stream."""
        part = type(self._asked)()
        part.CopyFrom(self._asked)
        if isinstance(part, sampler_pb2.WalkRequest):
            part.first_frame += self._next  # the numbers of its frames stay
        else:
            _keep(part, self._next, self._most)
        return part


def work(request: Any) -> tuple[tuple[str, str], ...]:
    """The metadata by which the gateway knows a request that is like one just refused; none if it computes nothing."""
    if isinstance(request, sampler_pb2.GetModelRequest | sampler_pb2.ListModelsRequest):
        return ()
    count = num_images(request)
    if isinstance(request, sampler_pb2.WalkRequest):
        count -= request.first_frame
    return work_of(request.model, count, version=request.version, digest=request.digest)


def num_images(request: Any) -> int:
    """How many images a request asks for or brings; if the request is wrong, the service says so."""
    if isinstance(request, sampler_pb2.WalkRequest):
        seeds = len(request.seeds)
        return seeds * request.steps if request.loop else (seeds - 1) * request.steps + 1
    if isinstance(request, sampler_pb2.DecodeRequest):
        return request.shape[0] if len(request.shape) > 1 else len(request.shape)  # a latent by itself
    if isinstance(request, sampler_pb2.EncodeRequest):
        return len(request.images)
    return len(request.seeds) or request.range.count


def _keep(request: sampler_pb2.SampleRequest, first: int, most: int) -> None:
    """Drop of a SampleRequest the images before one, and those after `most` more."""
    if request.HasField("range"):
        request.range.first += first
        request.range.count = min(request.range.count - first, most)
    else:
        del request.seeds[:first], request.seeds[most:]
    if len(request.labels) > 1:  # one is for all
        del request.labels[:first], request.labels[most:]
