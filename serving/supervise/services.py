"""Every process of the sampling service, as one: told alike, and a version is proven once all of them have proven it.

None of them holds state that another lacks, so the gateway sends a call to whichever has the fewest. Limits of calls
and of memory are shared out among them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.options import ServeOptions
from serving.service.inference.wanted import VersionId
from serving.supervise.output import Output
from serving.supervise.service_part import ServicePart

__all__ = ["Services", "sum_metrics"]

LEAST_MEMORY_MIB = 128
SMALLEST = ("ganvas_serving",)
"""Metrics of which not the sum but the smallest counts: all serve, or not."""

OnEvent = Callable[[dict[str, Any]], None]


class Services:
    """The processes of one run.

    Args:
        listen: where each listens behind the gateway. None: one process, on the options' host and port.
        on_event: takes every event, but of several processes that prove a version the one verdict.
        The others are as ServicePart has them.
    """

    def __init__(
        self,
        options: ServeOptions,
        *,
        triton: str,
        listen: Sequence[str] | None,
        opening: Callable[[], Mapping[str, object]],
        on_event: OnEvent,
        environ: Mapping[str, str],
        log: Output,
    ) -> None:
        places: Sequence[str | None] = [None] if listen is None else listen
        self._on_event = on_event
        self._proven: dict[tuple[VersionId, int], set[int]] = {}
        """Of each version and load that is being proven, who has proven it."""
        self.parts = [
            ServicePart(
                _share(options, len(places)),
                number=number if len(places) > 1 else None,
                triton=triton,
                listen=place,
                opening=opening,
                on_event=self._listener(number),
                environ=environ,
                log=log,
            )
            for number, place in enumerate(places, 1)
        ]

    @property
    def pids(self) -> list[int]:
        return [part.pid or 0 for part in self.parts]

    @property
    def models(self) -> list[dict[str, Any]]:
        """What all of them serve, once they do."""
        first, *others = ({(model["name"], model["version"]): model for model in part.models} for part in self.parts)
        return [model for key, model in first.items() if all(key in other for other in others)]

    @property
    def rejected(self) -> list[dict[str, Any]]:
        """What one of them rejected."""
        return list({(it["name"], it["version"]): it for part in self.parts for it in part.rejected}.values())

    def command(self, name: str, **fields: object) -> None:
        """Tell all of them something."""
        for part in self.parts:
            part.command(name, **fields)

    async def read_metrics(self) -> str:
        """The metrics of all of them together. Raises a TimeoutError if none answers."""
        if len(self.parts) == 1:
            return await self.parts[0].read_metrics()
        answers = await asyncio.gather(*(part.read_metrics() for part in self.parts), return_exceptions=True)
        texts = [answer for answer in answers if isinstance(answer, str)]
        if not texts:
            raise TimeoutError
        return await asyncio.to_thread(sum_metrics, texts)

    def drain(self) -> None:
        """Tell them to finish what they have accepted, then end."""
        for part in self.parts:
            part.drain()

    async def wait_drained(self) -> None:
        """Return once no call is in any of them."""
        for part in self.parts:
            await part.drained.wait()

    def hurry(self) -> None:
        """Tell them to end now."""
        for part in self.parts:
            part.hurry()

    async def stop(self, patience_s: float) -> None:
        """Wait for their end for patience_s, then kill them."""
        await asyncio.gather(*(part.stop(patience_s) for part in self.parts))

    def _listener(self, number: int) -> OnEvent:
        def listen(event: dict[str, Any]) -> None:
            if event["event"] == "proven":
                self._prove((event["name"], event["version"]), event["loads"], number, event)
                return
            if event["event"] == "refused":
                self._proven.pop(((event["name"], event["version"]), event["loads"]), None)
            self._on_event(event)
            if event["event"] == "serving":  # it came back, and has proven what it was to prove meanwhile
                served = {(model["name"], model["version"]): model for model in event["models"]}
                for key, loads in list(self._proven):
                    if key in served:
                        self._prove(key, loads, number, {"event": "proven", "loads": loads, **served[key]})

        return listen

    def _prove(self, key: VersionId, loads: int, number: int, event: dict[str, Any]) -> None:
        """One of them has proven a version; say so once all have."""
        by = self._proven.setdefault((key, loads), set())
        by.add(number)
        if len(by) == len(self.parts):
            del self._proven[key, loads]
            self._on_event(event)


def _share(options: ServeOptions, processes: int) -> ServeOptions:
    """What one of several processes may take on."""
    return dataclasses.replace(
        options,
        max_calls=math.ceil(options.max_calls / processes),
        request_memory_mib=max(LEAST_MEMORY_MIB, options.request_memory_mib // processes),
        cache_mib=math.ceil(options.cache_mib / processes),
    )


def sum_metrics(texts: Iterable[str]) -> str:
    """Metrics of several processes as if they were one's: sums, but for those of SMALLEST.

    Args:
        texts: in Prometheus' text format.
    """
    families: dict[str, Metric] = {}
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                if key not in values:
                    merged.samples.append(sample)
                    values[key] = sample.value
                elif family.name in SMALLEST:
                    values[key] = min(values[key], sample.value)
                else:
                    values[key] += sample.value
    for family in families.values():
        family.samples = [
            sample._replace(value=values[sample.name, tuple(sample.labels.items())]) for sample in family.samples
        ]
    return generate_latest(_Read(families.values())).decode()


class _Read:
    """What generate_latest takes for a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
