"""One address for every metric: the supervisor's own and, one after another, those of its parts.

Prometheus reads `http://127.0.0.1:8002/metrics`. A part that is away or silent leaves a gap, not an error.
"""

from __future__ import annotations

import errno
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from ganvas_core.cli import UserError
from serving.backends.onnxruntime.ganvas_counts import Read
from serving.supervise.medic import Medic
from serving.supervise.output import Output
from serving.supervise.part import Keeper

__all__ = ["MetricsServer", "read_http", "supervisor_metrics"]

READ_S = 5.0
"""A reader that is slower than this is dropped."""

STOP_S = 0.1
"""How soon it notices that it should stop."""

Source = Callable[[], str]
"""Metrics in Prometheus' text format. May take a while, and may raise an OSError."""

FileState = Callable[[], bool | None]
"""Whether a file is in use as it is now; None: there is none."""


class _Supervisor(Collector):
    """Restarts of every part, which are up, and what the log has lost."""

    def __init__(
        self,
        keepers: Iterable[Keeper],
        medic: Medic,
        log: Output,
        files: Mapping[str, FileState],
        computed: Callable[[], Iterable[Read]],
    ) -> None:
        self._computed = computed
        self._keepers = tuple(keepers)
        self._medic = medic
        self._log = log
        self._files = files

    def collect(self) -> Iterable[Metric]:
        restarts = CounterMetricFamily("ganvas_restarts", "Restarts of a part of serve.", labels=["part"])
        ready = GaugeMetricFamily("ganvas_part_ready", "Whether a part of serve is ready.", labels=["part"])
        for label in dict.fromkeys(keeper.part.label for keeper in self._keepers):  # the service may have several
            keepers = [keeper for keeper in self._keepers if keeper.part.label == label]
            restarts.add_metric([label], sum(keeper.restarts for keeper in keepers))
            ready.add_metric([label], float(all(keeper.ready.is_set() for keeper in keepers)))
        restarts.add_metric(["backend"], self._medic.reloads)
        canary = CounterMetricFamily(
            "ganvas_canary_failures", "Golden answers that were wrong, late or missing.", self._medic.failures
        )
        served = GaugeMetricFamily(
            "ganvas_version_served",
            "Whether a version is served, and if not, why.",
            labels=["model", "version", "reason"],
        )
        for (model, version), cause in self._medic.states().items():
            served.add_metric([model, str(version), cause or ""], float(cause is None))
        dropped = CounterMetricFamily("ganvas_log_lines_dropped", "Lines that nobody read in time.", self._log.dropped)
        files = []
        for name, state in self._files.items():
            family = GaugeMetricFamily(f"ganvas_{name}_file_ok", f"Whether the {name} file is in use as it is now.")
            if (ok := state()) is not None:
                family.add_metric([], float(ok))
            files.append(family)
        return restarts, ready, canary, served, dropped, self._batches(), *files

    def _batches(self) -> Metric:
        """Over the processes of a version."""
        sums: dict[tuple[str, str], tuple[int, float]] = {}
        for read in self._computed():
            batches, seconds = sums.get((read.model, read.version), (0, 0.0))
            sums[read.model, read.version] = (batches + read.batches, seconds + read.seconds)
        family = SummaryMetricFamily(
            "ganvas_backend_batch_seconds", "Computing of a batch, in its process.", labels=["model", "version"]
        )
        for labels, (batches, seconds) in sorted(sums.items()):
            family.add_metric(labels, batches, seconds)
        return family


def supervisor_metrics(
    keepers: Iterable[Keeper],
    medic: Medic,
    log: Output,
    files: Mapping[str, FileState],
    computed: Callable[[], Iterable[Read]],
) -> Source:
    """The supervisor's own.

    Args:
        files: name of each file that is followed to its state.
        computed: what the models' processes have computed.
    """
    registry = CollectorRegistry()
    registry.register(_Supervisor(keepers, medic, log, files, computed))
    return lambda: generate_latest(registry).decode()


def read_http(url: str) -> str:
    """The metrics that a part answers by HTTP. Raises an OSError if it is away."""
    with urllib.request.urlopen(url, timeout=READ_S) as reply:
        text: str = reply.read().decode()
    return text


class MetricsServer:
    """Answers GET /metrics on loopback, in threads of its own.

    Args:
        sources: name of each part to its metrics, read one after another at each request.
    Raises:
        UserError: the port is taken.
    """

    def __init__(self, port: int, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = READ_S

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody wants a line for each scrape."""

        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            other = "; another server may have just started" if error.errno == errno.EADDRINUSE else ""
            problem = f"--metrics-port {port}: {error.strerror}{other}. Take another, or 0 for a free one."
            raise UserError(problem) from None
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(STOP_S,), name="metrics", daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path.partition("?")[0] != "/metrics":
            request.send_error(404, "there is /metrics")
            return
        body = "".join(self._read(source) for source in self._sources.values()).encode()
        request.send_response(200)
        request.send_header("Content-Type", CONTENT_TYPE_LATEST)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _read(self, source: Source) -> str:
        try:
            text = source()
        except (OSError, TimeoutError):
            return ""
        return text if not text or text.endswith("\n") else text + "\n"
