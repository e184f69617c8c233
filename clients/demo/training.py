"""Both training runs at once, each on a core of its own, with a bar for each."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from clients.demo.errors import DemoError

PROGRESS_LINE = re.compile(r"^\S+ +([\d.]+)/([\d.]+) kimg +(.*)$")


def train_at_once(models: list[str], runs: Path, *, seed: int, console: Console) -> dict[str, float]:
    """Run `./ganvas train` for every model; returns the seconds that each took.

    What they print goes to runs/MODEL.log, and the progress in it to the bars.

    Raises:
        DemoError: a run failed; the end of its log is in the message.
    """
    runs.mkdir(parents=True)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        console=console,
    )
    with bars:
        trainings = [_Training(name, runs, seed=seed, bars=bars) for name in models]
        for training in trainings:
            training.join()
    for training in trainings:
        if training.code == 130:
            raise KeyboardInterrupt
        if training.code != 0:
            tail = "\n".join(training.log.read_text().splitlines()[-10:])
            raise DemoError(f"./ganvas train {training.name} failed with exit code {training.code}:\n{tail}")
    return {training.name: training.seconds for training in trainings}


class _Training(threading.Thread):
    """One run, and the thread that reads what it prints."""

    def __init__(self, name: str, runs: Path, *, seed: int, bars: Progress) -> None:
        super().__init__(name=name, daemon=True)
        self.log = runs / f"{name}.log"
        self.code: int | None = None
        self.seconds = 0.0
        self._start_s = time.monotonic()
        self._bars = bars
        arguments = ["train", name, "--out", str(runs / name), "--seed", str(seed)]
        bars.console.print(f"./ganvas {shlex.join(arguments)}", highlight=False, soft_wrap=True)
        self._bar: TaskID = bars.add_task(name, status="starting", total=None)
        command = [sys.executable, "-m", "training", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.start()

    def run(self) -> None:
        assert self._process.stdout is not None
        with self.log.open("w") as log:
            for line in self._process.stdout:
                log.write(line)
                if found := PROGRESS_LINE.match(line):
                    done, total, status = found.groups()
                    self._bars.update(self._bar, completed=float(done), total=float(total), status=status.strip())
        self.code = self._process.wait()
        self.seconds = time.monotonic() - self._start_s
        self._bars.stop_task(self._bar)
