"""Two threads in a row: one computes batch after batch, the other answers them meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Queue
from typing import Generic, TypeVar

__all__ = ["Pipeline"]

Job = TypeVar("Job")
Result = TypeVar("Result")

NUM_UNANSWERED = 2
"""Computed batches that may wait for their answers before the computing waits too."""


class Pipeline(Generic[Job, Result]):
    """Compute one job at a time, and answer each as soon as it is computed.

    Args:
        compute: runs on one thread, so never two at a time. Must not raise.
        answer: runs on another. Must not raise.
    """

    def __init__(self, compute: Callable[[Job], Result], answer: Callable[[Job, Result], None]) -> None:
        self._compute = compute
        self._answer = answer
        self._jobs: Queue[Job | None] = Queue(1)
        self._taken = threading.Semaphore(0)
        self._answers: Queue[tuple[Job, Result] | None] = Queue(NUM_UNANSWERED)
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._computing, self._answering)]
        for thread in self._threads:
            thread.start()

    @property
    def idle(self) -> bool:
        """Whether nothing is being computed; answers may still be on their way."""
        return self._jobs.unfinished_tasks == 0

    def put(self, job: Job) -> None:
        """Hand a job over; returns when its computing begins."""
        self._jobs.put(job)
        self._taken.acquire()

    def wait_idle(self) -> None:
        """Return once every job so far is computed."""
        self._jobs.join()

    def close(self) -> None:
        """Compute and answer what was put, then end the threads."""
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _computing(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._taken.release()
            result = self._compute(job)
            self._jobs.task_done()
            self._answers.put((job, result))
        self._answers.put(None)

    def _answering(self) -> None:
        while (item := self._answers.get()) is not None:
            self._answer(*item)
            del item  # else it would hold a batch of images until the next one
