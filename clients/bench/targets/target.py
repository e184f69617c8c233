"""What a load generator's process must know of what it measures: plain data, so that it crosses as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ganvas_core.certificate import Certificate
from ganvas_core.names import FP32_FILE
from ganvas_core.tls_options import TlsOptions

__all__ = ["GoldenRow", "Kind", "Target", "golden_rows"]

Kind = Literal["service", "kserve", "http", "process"]
"""service: ganvas.v1.Sampler. kserve: KServe v2 by gRPC. http: a peer that takes a seed as JSON. process: none; the
generator computes by itself, which is what a server can at best reach."""


@dataclass(frozen=True, kw_only=True)
class GoldenRow:
    """One image that must come out as the certificate says."""

    seed: int
    truncation: float
    label: int | None
    sha256: str
    """Of its raw bytes."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One way to get images of one model, `batch_size` a call."""

    kind: Kind
    model: str
    address: str = ""
    """HOST:PORT, of http a URL; in process what `entry` opens: an ONNX file, a checkpoint folder."""
    batch_size: int = 1
    num_labels: int = 0
    """0: an unconditional model."""
    golden: tuple[GoldenRow, ...] = ()
    """Empty: nothing is known of the model, and answers are held against the first ones."""
    tolerance_levels: int = 0
    """How far the golden images may be from `reference`'s, of what is no ONNX Runtime."""
    reference: str = ""
    """The ONNX file that makes them."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Sent with each call."""
    tls: TlsOptions = field(default_factory=TlsOptions)
    """Of gRPC, plaintext by default; of an https URL, whom to trust."""
    input_data: str = ""
    """A file of requests, of a kserve server of any model: docs/benchmarking.md."""
    entry: str = ""
    """MODULE:FUNCTION that opens a process target."""
    mode: str = ""
    """What `entry` is told."""
    image_format: Literal["raw", "png", "jpeg", "webp"] = "raw"
    """Of the service's images."""
    threads: int = 1
    """Compute threads in process."""
    wait_s: float = 5.0
    """How long it may take to answer for the first time."""


def golden_rows(certificate: Certificate, file_name: str = FP32_FILE) -> tuple[GoldenRow, ...]:
    """Those of one of the certificate's files."""
    return tuple(
        GoldenRow(seed=row.seed, truncation=row.truncation, label=row.label, sha256=row.sha256)
        for row in certificate.files[file_name].golden
    )
