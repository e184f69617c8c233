"""What can be chosen about a measurement."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field
from pydantic.dataclasses import dataclass

from ganvas_core.cli import OPTIONS, Cli
from ganvas_core.tls_options import Address, CallerOptions

__all__ = ["BenchOptions", "CompareOptions"]

Scenario = Literal["ratios", "closed", "open", "goodput", "loadgen", "cold", "perf_analyzer"]
SCENARIOS: tuple[Scenario, ...] = ("ratios", "closed", "open", "cold")
TargetName = Literal["onnxruntime", "pytorch", "pytorch-compiled", "direct", "service", "mosec", "litserve"]

TARGETS: tuple[TargetName, ...] = ("onnxruntime", "direct", "service")


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class BenchOptions(CallerOptions):
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
    address: Address | None = None
    """HOST:PORT of a Ganvas that runs, instead of one that is started here."""
    kserve: Address | None = None
    """HOST:PORT of any KServe v2 server by gRPC, Triton's own too."""
    metrics: Address | None = None
    """HOST:PORT of a running Triton's metrics, for where the time goes and batch fill."""
    http: str | None = None
    """URL, http[s]://HOST:PORT/PATH, that answers a POST of {"seed": …, "truncation": …, "label": …} with the raw bytes
    of an image."""
    input_data: Path | None = None
    """With --kserve: requests of a model that is no sampler, as perf_analyzer takes them: docs/benchmarking.md."""
    wait_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """How long a server may take to answer for the first time."""
    targets: Annotated[tuple[TargetName, ...], Cli(flag="--target", shown_default="onnxruntime, direct, service")] = (
        TARGETS
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
    serve: tuple[str, ...] = ()
    """Option handed to serve, as --serve=--OPTION=VALUE; may be given again."""
    out: Path | None = None
    """Folder for the report: JSON, Markdown, and a page to look at."""

    def __post_init__(self) -> None:
        given = [name for name in ("address", "kserve", "http") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"--{given[0]} and --{given[1]} exclude each other.")
        if given and (self.network or self.series):
            raise ValueError(f"--{given[0]} measures a server that runs; --network and --series start one.")
        if given and set(self.scenarios) == {"cold"}:
            raise ValueError(f"--scenario cold starts a server, and --{given[0]} names one that runs.")
        if self.models and not self.checkpoint and any(target.startswith("pytorch") for target in self.targets):
            raise ValueError("--target pytorch needs --checkpoint: the folder that the model was exported from.")
        if self.checkpoint and len(self.models) != 1:
            raise ValueError("--checkpoint is that of one --model.")
        if self.input_data and not self.kserve:
            raise ValueError("--input-data needs --kserve.")
        if "goodput" in self.scenarios and self.slo_p99_ms is None:
            raise ValueError("--scenario goodput needs --slo-p99-ms.")
        if self.repository and not (self.models or self.kserve or self.http):
            raise ValueError("--repository needs --model: which of its models to measure.")
        if self.models and (self.network or self.series):
            raise ValueError(
                "--model is one that was exported; --network and --series export others. Give one of them."
            )
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable() and " " not in self.api_key):
            raise ValueError("GANVAS_API_KEY must be printable ASCII without spaces.")
        if (self.kserve or self.http) and self.targets != TARGETS:
            raise ValueError("--target is a way to a Ganvas; --kserve and --http are ways by themselves.")
        if self.http and not _is_url(self.http):
            raise ValueError(f"--http must be http://HOST:PORT/PATH or https://…; got {self.http}.")
        if self.rates and "open" not in self.scenarios:
            raise ValueError("--rate is of --scenario open, which is not among those that are given.")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, values in (("--concurrency", self.concurrency), ("--rate", self.rates)):
            wrong = [value for value in values if not 0 < value <= 1_000_000]
            if wrong:
                raise ValueError(f"{name} must be within (0, 1000000]; got {wrong[0]}.")
        least = 1 / self.seconds
        slow = [rate for rate in self.rates if rate < least]
        if slow:
            raise ValueError(
                f"--rate must be at least {least:.3g}, one call in the {self.seconds:g} s of a measurement; got "
                f"{slow[0]:g}. --seconds takes longer."
            )

    def of_own_server(self) -> Self:
        """For a server that is started here: it speaks TLS only if --serve gives it a certificate, whatever the
        variables are meant for."""
        if any(option.startswith("--tls-cert") for option in self.serve):
            return self
        return dataclasses.replace(self, tls_ca=None, tls_client_cert=None, tls_client_key=None)

    @property
    def is_remote(self) -> bool:
        """Whether the server runs already."""
        return bool(self.server)

    @property
    def server(self) -> str | None:
        """Address or URL of a server that runs already."""
        return self.address or self.kserve or self.http


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port there can be, or no IPv6 address
        return False


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class CompareOptions:
    """Options of `bench compare`."""

    env_prefix: ClassVar[None] = None

    a: Annotated[Path, Cli(positional=True, flag="A.json")]
    """JSON of one report, which --out wrote beside its page."""
    b: Annotated[Path, Cli(positional=True, flag="B.json")]
    """JSON of the other: its figures are divided by those of the first."""
