"""Start the processes of a job together and put their reports together."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO

from pydantic import TypeAdapter
from pydantic_core import to_json

from clients.bench.load.job import GeneratorError, LoadJob, LoadReport, ProcessReport, merge
from clients.bench.targets.connection import WrongAnswerError
from clients.bench.targets.transport import TargetError

__all__ = ["RunningLoad", "run_load"]

LEAD_S = 0.05
"""From when all are ready to when they begin."""
_ERRORS = {"TargetError": TargetError, "WrongAnswerError": WrongAnswerError}
_MORE_S = 120.0
END_S = 10.0
"""For a process that has ended its output to end itself."""


class RunningLoad:
    """The generator's processes; the load begins as soon as all are ready.

    Raises:
        TargetError: the target cannot be reached.
        WrongAnswerError: it answers wrongly.
        GeneratorError: a process failed.
    """

    def __init__(self, job: LoadJob) -> None:
        self._job = job
        self._generators: list[_Generator] = []
        try:
            self._generators.extend(_Generator(part) for part in _parts(job))
            for generator in self._generators:
                generator.tell_job()
            for generator in self._generators:
                generator.wait_ready()
            begin_s = time.monotonic() + LEAD_S
            for generator in self._generators:
                generator.begin(begin_s)
        except BaseException:
            self.stop()
            raise

    def report(self) -> LoadReport:
        """Wait for the end. Raises as the constructor does."""
        timeout_s = self._job.warmup_s + self._job.seconds + self._job.deadline_s + _MORE_S
        try:
            return merge(self._job, [generator.report(timeout_s) for generator in self._generators])
        finally:
            self.stop()

    def stop(self) -> None:
        for generator in self._generators:
            generator.stop()


def run_load(job: LoadJob) -> LoadReport:
    """Run the job in fresh processes and wait for it. Raises as RunningLoad does."""
    return RunningLoad(job).report()


def _parts(job: LoadJob) -> list[LoadJob]:
    """The job of each process. Poisson arrivals that are split are Poisson arrivals."""
    count = min(job.processes, job.concurrency) if job.kind == "closed" else job.processes
    callers = [job.concurrency // count + (i < job.concurrency % count) for i in range(count)]
    return [
        dataclasses.replace(job, rate=job.rate / count, concurrency=callers[i], seed=job.seed * 1000 + i)
        for i in range(count)
    ]


class _Generator:
    def __init__(self, job: LoadJob) -> None:
        self._job = job
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by stop
        command = [sys.executable, "-m", "clients.bench.load"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        # It stays open for as long as this process lives, and the generator no longer: communicate would close it.
        self._stdin, self._process.stdin = self._process.stdin, None

    def tell_job(self) -> None:
        # Not by its command line, which every user of this machine sees: the server's key is in the job.
        self._tell(to_json(self._job).decode())

    def wait_ready(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line.strip() != "ready":
            self._fail(line)

    def begin(self, begin_s: float) -> None:
        self._tell(str(begin_s))

    def _tell(self, line: str) -> None:
        assert self._stdin is not None
        try:
            self._stdin.write(f"{line}\n")
            self._stdin.flush()
        except BrokenPipeError:
            self._fail("")

    def report(self, timeout_s: float) -> ProcessReport:
        try:
            output, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise GeneratorError(f"the load generator did not end within {timeout_s:.0f} s.") from None
        if self._process.returncode != 0:
            self._fail(output)
        return TypeAdapter(ProcessReport).validate_json(output)

    def _fail(self, output: str) -> None:
        try:
            told = json.loads(output)
        except ValueError:
            self._end()
            self._errors.seek(0)
            # Of a traceback, the line that says what it is.
            said = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            code = self._process.returncode
            raise GeneratorError(f"the load generator failed: {said or f'exit code {code}'}.") from None
        raise _ERRORS.get(told["kind"], GeneratorError)(told["error"])

    def _end(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=END_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._process.stdout, self._errors):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):  # what it ended without reading
                    pipe.close()
