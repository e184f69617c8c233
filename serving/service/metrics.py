"""What the service counts and measures, for Prometheus. docs/metrics.md lists all of it.

One object for the process, handed to whoever has something to tell it. Labels are methods, codes, models that are
served and reasons of ours: nothing that a caller can make up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

__all__ = ["Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REASONS = ("bytes", "calls", "state", "triton", "wait")
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of the service."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the output
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ganvas_requests", "Calls that have ended, replies sent.", ["method", "code"], registry=registry
        )
        self.request_seconds = Histogram(
            "ganvas_request_seconds", "From the call to its end.", ["method"], buckets=SECONDS, registry=registry
        )
        self.calls = Gauge(
            "ganvas_calls", "Calls under way; SampleStream and Walk are streams.", ["method"], registry=registry
        )
        self.images = Counter("ganvas_images", "Images computed for calls.", ["model", "version"], registry=registry)
        self.refused = Counter("ganvas_refused", "Calls refused at the door.", ["reason"], registry=registry)
        for reason in REASONS:
            self.refused.labels(reason)
        self.queue_seconds = Histogram(
            "ganvas_queue_seconds",
            "From admission to the first batch of a call in Triton.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_images = Histogram(
            "ganvas_batch_images", "Images in a request to Triton.", ["model"], buckets=IMAGES, registry=registry
        )
        self.inference_seconds = Histogram(
            "ganvas_inference_seconds", "A request in Triton.", ["model"], buckets=SECONDS, registry=registry
        )
        self.encode_seconds = Histogram(
            "ganvas_encode_seconds", "Images of a batch into files.", ["format"], buckets=SECONDS, registry=registry
        )
        self.cache_hits = Counter(
            "ganvas_cache_hits", "Calls answered from images that were kept.", ["model"], registry=registry
        )
        self.cache_misses = Counter(
            "ganvas_cache_misses", "Calls that were looked for among them in vain.", ["model"], registry=registry
        )
        self.batches_lost = Counter(
            "ganvas_batches_lost", "Batches that Triton lost and that were sent again.", ["model"], registry=registry
        )
        self.received_bytes = Counter("ganvas_received_bytes", "Bytes of requests.", ["method"], registry=registry)
        self.sent_bytes = Counter("ganvas_sent_bytes", "Bytes of replies.", ["method"], registry=registry)
        for metric in vars(self).values():
            if isinstance(metric, Counter | Gauge | Histogram):
                # A call asks for some ten of them. Those of a label stay, so that finding them can be a dictionary's.
                metric.labels = cache(metric.labels)  # type: ignore[assignment]

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is asked when it is read."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry).decode()
