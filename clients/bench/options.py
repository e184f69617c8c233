"""What can be chosen about a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ganvas_core.cli import OPTIONS, Cli

__all__ = ["BenchOptions", "CompareOptions"]

Scenario = Literal["ratios", "closed", "open", "goodput", "loadgen", "cold", "perf_analyzer"]
SCENARIOS: tuple[Scenario, ...] = ("ratios", "closed", "open", "cold")
TargetName = Literal["onnxruntime", "pytorch", "pytorch-compiled", "direct", "service", "mosec", "litserve"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class BenchOptions:
    """Options of `bench`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    models: Annotated[tuple[str, ...], Cli(flag="--model")] = ()
    """Model to measure, of --repository or of a server that runs; may be given again. None: networks of random weights
    are exported."""
    repository: Annotated[Path | None, Cli(shown_default="none")] = None
    """Model repository to serve from; with --kserve or --http: where the certificate is, whose golden images must come
    out."""
    network: tuple[Path, ...] = ()
    """TOML file of a network to export with random weights; may be given again."""
    series: bool = False
    """Measure networks of six sizes, from a perceptron to images of 256 pixels."""
    checkpoint: Path | None = None
    """Checkpoint of the model, for PyTorch in process."""
    address: str | None = None
    """HOST:PORT of a Ganvas that runs, instead of one that is started here."""
    kserve: str | None = None
    """HOST:PORT of any KServe v2 server by gRPC, Triton's own too."""
    metrics: str | None = None
    """HOST:PORT of a running Triton's metrics, for where the time goes and batch fill."""
    http: str | None = None
    """URL that answers a POST of {"seed": …, "truncation": …, "label": …} with the raw bytes of an image."""
    input_data: Path | None = None
    """With --kserve: requests of a model that is no sampler, as perf_analyzer takes them: docs/benchmarking.md."""
    api_key: Annotated[str | None, Cli(secret=True, env="GANVAS_API_KEY")] = None
    """Key of the gateway."""
    targets: Annotated[tuple[TargetName, ...], Cli(flag="--target", shown_default="onnxruntime, direct, service")] = (
        "onnxruntime",
        "direct",
        "service",
    )
    """Way to the model: onnxruntime, pytorch or pytorch-compiled (in process, the ceilings), direct (KServe v2),
    service, or a peer that serves the same file, mosec or litserve; may be given again."""
    scenarios: Annotated[tuple[Scenario, ...], Cli(flag="--scenario", shown_default="ratios, closed, open, cold")] = (
        SCENARIOS
    )
    """What to measure: ratios (against bare ONNX Runtime), closed (by concurrency), open (by Poisson rate), goodput
    (with --slo-p99-ms), loadgen (MLPerf's four scenarios), cold (a start), perf_analyzer (a second opinion); may be
    given again."""
    rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    """Rounds; each measures everything in turn, and figures have confidence intervals over them."""
    seconds: Annotated[float, Field(ge=0.5, le=3600)] = 4.0
    """Length of one measurement, after its warm-up."""
    warmup_s: Annotated[float, Field(ge=0, le=600)] = 1.0
    """Seconds before it that do not count; what else was warm-up is found and left out."""
    concurrency: Annotated[tuple[int, ...], Cli(shown_default="1, 4, 16, 64")] = (1, 4, 16, 64)
    """Callers of a closed loop; may be given again."""
    rates: Annotated[
        tuple[float, ...], Cli(flag="--rate", shown_default="0.25, 0.5, 0.75 and 0.9 of what it can do")
    ] = ()
    """Calls a second of an open loop; may be given again."""
    images: Annotated[int, Field(ge=1, le=1024)] = 16
    """Images in a large call of the service."""
    slo_p99_ms: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """Find the highest Poisson rate whose p99 stays within this."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Compute threads, in process and of the one Triton instance of an exported network."""
    instances: Annotated[int, Field(ge=1, le=256)] = 1
    """Triton instances of an exported network."""
    generators: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that make the load."""
    wait_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """How long a server may take to answer for the first time."""
    serve: tuple[str, ...] = ()
    """Option handed to serve, as --serve=--OPTION=VALUE; may be given again."""
    out: Path | None = None
    """Folder for the report: JSON, Markdown, and a page to look at."""

    def __post_init__(self) -> None:
        given = [name for name in ("address", "kserve", "http") if getattr(self, name)]
        if len(given) > 1 and given != ["address", "kserve"]:
            raise ValueError(f"--{given[0]} and --{given[1]} exclude each other.")
        if given and (self.network or self.series):
            raise ValueError(f"--{given[0]} measures a server that runs; --network and --series start one.")
        if self.checkpoint and len(self.models) != 1:
            raise ValueError("--checkpoint is that of one --model.")
        if self.input_data and not self.kserve:
            raise ValueError("--input-data needs --kserve.")
        if "goodput" in self.scenarios and self.slo_p99_ms is None:
            raise ValueError("--scenario goodput needs --slo-p99-ms.")
        for name, values in (("--concurrency", self.concurrency), ("--rate", self.rates)):
            if not all(0 < value <= 1_000_000 for value in values):
                raise ValueError(f"{name} must be within (0, 1000000]; got {min(values)}.")

    @property
    def is_remote(self) -> bool:
        """Whether the server runs already."""
        return bool(self.address or self.kserve or self.http)


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class CompareOptions:
    """Options of `bench compare`."""

    env_prefix: ClassVar[None] = None

    a: Annotated[Path, Cli(positional=True)]
    """JSON of one report."""
    b: Annotated[Path, Cli(positional=True)]
    """JSON of the other."""
