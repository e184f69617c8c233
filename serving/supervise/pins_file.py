"""The pins of a repository, as `serve` follows them."""

from __future__ import annotations

import logging
from pathlib import Path

from serving.repository.pins import PINS_FILE, read_pins
from serving.repository.reader import RepositoryError
from serving.service.logs import logfmt

__all__ = ["PinsFile"]

logger = logging.getLogger("ganvas.supervisor")


class PinsFile:
    """`_pins.json` of one repository."""

    def __init__(self, source: Path) -> None:
        self.ok = True
        """Whether the pins that were read last are those of the file as it is now."""
        self._source = source
        self._pins: dict[str, int] = {}
        self._told: object = None
        """The file and the error that were logged last; None while the file is in use."""

    def read(self) -> dict[str, int]:
        """What the file says, or said before; one that cannot be read is logged once for each change of it."""
        try:
            status = (self._source / PINS_FILE).stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            seen = None
        try:
            self._pins = read_pins(self._source)
        except RepositoryError as error:
            self.ok = False
            told = (seen, str(error))
            if told != self._told:
                logger.error(logfmt(event="pins-unreadable", reason=str(error)))
            self._told = told
            return self._pins
        if self._told is not None:
            logger.warning(logfmt(event="pins-readable"))
        self.ok, self._told = True, None
        return self._pins
