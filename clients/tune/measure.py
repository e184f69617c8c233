"""Settings served side by side and loaded in turns: their curves of latency against rate, and what each serves."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from clients.local_server import LocalServerError, local_server
from clients.tune.load import Point, capacity, open_loop
from clients.tune.setting import Setting, with_setting
from ganvas_client import Sampler
from ganvas_core.names import CONFIG_FILE, companions

__all__ = ["LEAST", "QUICK", "WHOLE", "Curve", "Measuring", "Served", "served_within"]

QUICK = (0.6, 0.85)
LEAST = 0.85
"""A challenger that takes less than this part of what the best can is given up: within the bound it hardly serves
more."""
WHOLE = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Rates of a curve, as parts of what the setting can take."""
HOPELESS = 4.0
"""At so many times the bound, higher rates are not measured: they are worse, and have to be waited for."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What was measured of a setting."""

    setting: Setting
    capacity: float
    """Requests a second of callers that wait for each answer."""
    points: Sequence[Point]

    def rate_within(self, slo_p99_ms: float) -> float:
        """Requests a second with a p99 within the bound; 0: not even the lowest rate."""
        return served_within(self.points, slo_p99_ms)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A setting that is being served; idle, it costs next to nothing."""

    setting: Setting
    address: str
    """Of Triton."""


def served_within(points: Sequence[Point], slo_p99_ms: float) -> float:
    """The rate at which the p99 reaches the bound, between the last point within it and the first beyond."""
    good = 0.0
    last_ms = 0.0
    for point in sorted(points, key=lambda point: point.rate):
        if point.p99_ms <= slo_p99_ms:
            good, last_ms = point.rate, point.p99_ms
            continue
        if good and point.p99_ms != float("inf"):
            good += (point.rate - good) * (slo_p99_ms - last_ms) / (point.p99_ms - last_ms)
        break
    return good


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How settings of a model are measured.

    Args:
        seconds: of one rate.
    """

    repository: Path
    name: str
    slo_p99_ms: float
    seconds: float
    labelled: bool

    @contextmanager
    def served(self, setting: Setting) -> Iterator[Served | None]:
        """A copy of the model, served with a setting for the duration of the block.

        None: its golden images are not exactly as certified with it, or it cannot be served.
        """
        arguments = ["--no-gateway", "--canary-s=0", "--log-level=error"]
        with tempfile.TemporaryDirectory(prefix="ganvas-tune-") as scratch, ExitStack() as stack:
            self._copy(Path(scratch), setting)
            try:
                server = stack.enter_context(local_server(Path(scratch), arguments=arguments))
            except LocalServerError:
                yield None
                return
            with Sampler(server.service, direct=False) as sampler:
                exact = sampler.model(self.name).golden == "exact"
            yield Served(setting=setting, address=server.triton_grpc) if exact else None

    def curves(self, served: Sequence[Served], parts: Sequence[float], *, least: float = 0.0) -> list[Curve]:
        """The curve of each, all rates taking turns: the machine may be slower in a minute.

        Args:
            parts: of what each can take, ascending.
            least: where one takes less than this part of what the first can, no rate is measured.
        """
        most = [capacity(one.address, self.name, seconds=self.seconds, labelled=self.labelled) for one in served]
        points: list[list[Point]] = [[] for _ in served]
        if min(most) < least * most[0]:
            parts = ()
        for part in parts:
            for one, rate, found in zip(served, most, points, strict=True):
                if not found or found[-1].p99_ms <= HOPELESS * self.slo_p99_ms:
                    found.append(self._point(one.address, max(1.0, part * rate)))
        return [
            Curve(setting=one.setting, capacity=rate, points=found)
            for one, rate, found in zip(served, most, points, strict=True)
        ]

    def _point(self, address: str, rate: float) -> Point:
        late_s = max(1.0, HOPELESS * self.slo_p99_ms / 1e3)
        return open_loop(address, self.name, rate=rate, seconds=self.seconds, late_s=late_s, labelled=self.labelled)

    def _copy(self, scratch: Path, setting: Setting) -> None:
        """The newest version of the model and of its companions, which serving checks against their certificates."""
        version = max(int(path.name) for path in (self.repository / self.name).iterdir() if path.name.isdecimal())
        for model in (self.name, *companions(self.name)):
            source = self.repository / model
            if (source / str(version)).is_dir():
                shutil.copytree(source / str(version), scratch / model / str(version))
                shutil.copyfile(source / CONFIG_FILE, scratch / model / CONFIG_FILE)
        path = scratch / self.name / CONFIG_FILE
        path.write_text(with_setting(path.read_text(encoding="utf-8"), setting), encoding="utf-8")
