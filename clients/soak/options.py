"""The options of every scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from clients.networks import DCGAN64
from clients.soak.fuzz.cases import FAMILIES, Family
from clients.soak.overload import FACTORS, Step
from ganvas_core.cli import OPTIONS, Cli

__all__ = ["FuzzOptions", "MixedOptions", "OverloadOptions", "SoakOptions", "StreamsOptions", "SwapsOptions"]

Seed = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class SoakOptions:
    """What every scenario has."""

    env_prefix: ClassVar[None] = None

    seed: Seed = 1
    """Of everything random: a run can be repeated."""
    repository: Annotated[Path | None, Cli(shown_default="made of random weights")] = None
    """A model repository that an earlier run made, to save the export."""
    serve: Annotated[tuple[str, ...], Cli(shown_default="none")] = ()
    """Argument for `./ganvas serve`, as in --serve=--log-level=error; may be given again."""
    out: Path | None = None
    """Folder for the report (JSON)."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class MixedOptions(SoakOptions):
    """Options of `mixed`."""

    minutes: Annotated[float, Field(gt=0, le=10000)] = 30.0
    """Length of the load."""
    kills: Annotated[int, Field(ge=0, le=10000)] = 20
    """Parts killed at random moments: gateway, service, Triton and its models' processes in turn."""
    stops: Annotated[int, Field(ge=0, le=10000)] = 4
    """How many of these are SIGSTOP instead of SIGKILL."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class FuzzOptions(SoakOptions):
    """Options of `fuzz`."""

    count: Annotated[int, Field(ge=1, le=10**8)] = 20_000
    """Requests to send."""
    first: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Number of the first: with --count 1 a single one is sent again."""
    families: tuple[Family, ...] = tuple(FAMILIES)
    """Kind of requests; may be given again."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class OverloadOptions(SoakOptions):
    """Options of `overload`."""

    seconds: Annotated[float, Field(ge=2, le=3600)] = 20.0
    """Of one measurement; with 60 s deadlines four times as long."""
    images: Annotated[int, Field(ge=1, le=256)] = 8
    """Of one call of the open loop."""
    model: str = DCGAN64.name
    """Which one of the repository."""
    steps: Annotated[tuple[Step, ...], Cli(shown_default="all")] = ("latencies", "open", "closed", "large")
    """What to measure: single images, open loops, closed loops, calls of 256; may be given again."""
    factors: Annotated[tuple[Annotated[float, Field(gt=0, le=100)], ...], Cli(shown_default="0.5, 1, 1.5 and 3")] = (
        FACTORS
    )
    """Rate of an open loop, times what the server can do; may be given again."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class StreamsOptions(SoakOptions):
    """Options of `streams`."""

    images: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1_000_000
    """Of the one long stream."""
    connections: Annotated[int, Field(ge=0, le=10**5)] = 2000
    """Idle connections."""
    unread: Annotated[int, Field(ge=0, le=10**5)] = 1024
    """Streams of one client that are never read."""
    seconds: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """How long another client is measured beside them."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class SwapsOptions(SoakOptions):
    """Options of `swaps`."""

    swaps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Versions to export while it serves."""
