"""A way to one target. Replies stay bytes unless they are checked, so that the generator takes as little as it can of
the cores that it may share with the server under test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ganvas_core.cli import UserError

__all__ = ["CallFailedError", "TargetError", "Transport"]

DEFAULT_RETRY_S = 0.2


class TargetError(UserError):
    """What is to be measured cannot be: it does not answer, or answers with an error."""


class CallFailedError(Exception):
    """One call had no answer.

    Args:
        status: gRPC's name of it, or HTTP's number.
        retry_s: when a refused call may be repeated.
    """

    def __init__(self, status: str, details: str = "", retry_s: float = DEFAULT_RETRY_S) -> None:
        super().__init__(f"{status}: {details.rstrip('.')}" if details else status)
        self.status = status
        self.details = details
        self.retry_s = retry_s


class Transport(ABC):
    """A way to one target."""

    @abstractmethod
    async def open(self) -> None:
        """Get ready to call, within the target's wait_s. Raises TargetError."""

    @abstractmethod
    async def call(self, body: Any, timeout_s: float) -> Any:
        """The reply. Raises CallFailedError."""

    @abstractmethod
    def first_image(self, reply: Any) -> bytes:
        """The raw bytes of the first image of a reply. Raises ValueError: it is none."""

    async def num_dimensions(self) -> dict[str, int]:
        """Of each of the model's inputs, by name, the batch's dimension included; empty: the server does not say."""
        return {}

    def timing_us(self, reply: Any) -> dict[str, int]:
        """Where the server says that the time went; empty: it does not."""
        return {}

    async def close(self) -> None:  # noqa: B027  not all have something to close
        """Give up the connections."""
