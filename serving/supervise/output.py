"""Output that never blocks: a thread writes, and what does not fit into the queue is dropped and counted."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from ganvas_core.cli import UserError
from ganvas_core.files import locked

__all__ = ["LogFolderError", "Output", "TextOutput", "console_output", "log_output"]

STDERR = 2

QUEUE_BYTES = 4 * 2**20
CHUNK_BYTES = 65536
RETRY_S = 1.0
"""After an error: the disk may have room again, the terminal may not come back."""


class Output:
    """A file descriptor that may be written to at any time, from any thread, without waiting.

    Behind it may be a pipe whose reader has stopped, a closed terminal or a full disk. `dropped` counts the lines
    that were lost, and a line in the output says so as soon as something gets through again.

    Args:
        descriptor: stays the caller's; must stay open until `close` has returned.
    """

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._queue: deque[bytes] = deque()
        self._num_bytes = 0
        self._untold = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="output", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Queue it, or drop it if the queue is full."""
        with self._changed:
            if self._num_bytes + len(data) > QUEUE_BYTES:
                self._drop(data)
                return
            self._queue.append(data)
            self._num_bytes += len(data)
            self._changed.notify()

    def close(self, patience_s: float = 1.0) -> None:
        """Write what is queued for at most patience_s."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience_s)

    def _drop(self, data: bytes) -> None:
        lines = max(1, data.count(b"\n"))
        self.dropped += lines
        self._untold += lines

    def _write_all(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                data = self._queue.popleft()
                self._num_bytes -= len(data)
                untold, self._untold = self._untold, 0
            told = f"{untold} lines of this log were dropped: nobody read it, or it could not be written\n".encode()
            if not self._write(data + (told if untold else b"")):
                with self._changed:
                    self._untold += untold
                    self._drop(data)
                    if self._closing:
                        return
                time.sleep(RETRY_S)

    def _write(self, data: bytes) -> bool:
        """Whether all of it was written."""
        view = memoryview(data)
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(self._descriptor, view[:CHUNK_BYTES]) :]
        return not view


class TextOutput(io.TextIOBase):
    """An Output as a text file, for a console.

    Args:
        terminal: whether it is one.
    """

    encoding = "utf-8"

    def __init__(self, output: Output, *, terminal: bool) -> None:
        self._output = output
        self._terminal = terminal

    def write(self, text: str) -> int:
        self._output.write(text.encode(errors="replace"))
        return len(text)

    def isatty(self) -> bool:
        return self._terminal

    def writable(self) -> bool:
        return True


class LogFolderError(UserError):
    """The folder for logs cannot be written, or is another run's."""


@contextmanager
def log_output(log_dir: Path | None) -> Iterator[Output]:
    """service.log in the log_dir, or stderr.

    Raises:
        LogFolderError: see there.
    """
    if log_dir is None:
        with _output(STDERR) as output:
            yield output
        return
    path = log_dir / "service.log"
    with ExitStack() as stack:
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path))
            file = stack.enter_context(path.open("ab"))
        except BlockingIOError:
            raise LogFolderError(
                f"--log-dir {log_dir} belongs to another ./ganvas serve that is running. Choose another folder."
            ) from None
        except OSError as error:
            raise LogFolderError(f"--log-dir {log_dir}: {error.strerror}.") from None
        yield stack.enter_context(_output(file.fileno()))


@contextmanager
def console_output(console: Console) -> Iterator[Console]:
    """The same console, but it never waits for its reader."""
    try:
        descriptor = console.file.fileno()
    except (OSError, ValueError):  # its file is in memory
        yield console
        return
    with _output(descriptor) as output:
        yield Console(file=TextOutput(output, terminal=console.is_terminal), width=console.width)  # type: ignore[arg-type]


@contextmanager
def _output(descriptor: int) -> Iterator[Output]:
    output = Output(descriptor)
    try:
        yield output
    finally:
        output.close()
