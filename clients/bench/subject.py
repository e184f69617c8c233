"""What is measured: one model, and the targets that lead to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clients.bench.options import BenchOptions
from clients.bench.peers import Peer
from clients.bench.targets import Target, golden_rows
from clients.bench.targets.inprocess import ONNX_ENTRY
from clients.local_server import LocalServer
from ganvas_client import GanvasError, ModelInfo, Sampler
from ganvas_core.certificate import Certificate, CertificateError
from ganvas_core.cli import UsageError, UserError
from ganvas_core.names import CERTIFICATE_FILE, FP32_FILE

__all__ = ["Subject", "given_subject", "local_subject", "newest_version"]

PYTORCH_ENTRY = "benchmarks.pytorch:open_checkpoint"
PEER_WAIT_S = 60.0
PYTORCH_LEVELS = 2
"""How far PyTorch's images may be from ONNX Runtime's: the proof of an export allows as much."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model."""

    model: str
    targets: Mapping[str, Target]
    """By name, of one image a call: onnxruntime, pytorch, pytorch-compiled (in process); direct, service, peer,
    kserve."""
    image: tuple[int, int, int] | None = None
    """Height, width, channels, if known."""
    pid: int | None = None
    """Of the server, where it is on this machine."""
    peer_pids: Mapping[str, int] = field(default_factory=dict)
    """Of the targets that have a server of their own."""
    metrics: str | None = None
    """HOST:PORT of Triton's metrics, Prometheus."""
    notes: list[str] = field(default_factory=list)

    def pid_of(self, name: str) -> int | None:
        """Of the server behind a target."""
        return self.peer_pids.get(name, self.pid)

    def metrics_of(self, name: str) -> str | None:
        """Of the Triton behind a target."""
        return None if name in self.peer_pids else self.metrics

    def target(self, name: str, batch_size: int = 1) -> Target:
        return dataclasses.replace(self.targets[name], batch_size=batch_size)

    @property
    def served(self) -> list[str]:
        """Targets behind a connection."""
        return [name for name, target in self.targets.items() if target.kind != "process"]

    @property
    def in_process(self) -> list[str]:
        return [name for name, target in self.targets.items() if target.kind == "process"]


def newest_version(repository: Path, model: str) -> Path:
    """The folder of a model's newest version.

    Raises:
        UsageError: there is none.
    """
    versions = [
        path.parent for path in (repository / model).glob(f"*/{CERTIFICATE_FILE}") if path.parent.name.isdigit()
    ]
    if not versions:
        there = ", ".join(sorted(path.parents[1].name for path in repository.glob(f"*/1/{CERTIFICATE_FILE}"))) or "none"
        raise UsageError(f"--model {model} is not in {repository}. There are: {there}.")
    return max(versions, key=lambda folder: int(folder.name))


def local_subject(
    options: BenchOptions,
    repository: Path,
    model: str,
    server: LocalServer,
    *,
    checkpoint: Path | None = None,
    peers: Mapping[str, Peer] | None = None,
) -> Subject:
    """A model of a repository that this machine serves."""
    version = newest_version(repository, model)
    try:
        certificate = Certificate.read(version)
    except CertificateError as error:
        raise UserError(str(error)) from None
    with Sampler(server.service) as sampler:
        info = sampler.model(model)
    base, notes = _base(info, certificate, options)
    targets = {
        "onnxruntime": _in_process(base, version, ONNX_ENTRY, str(version / FP32_FILE), ""),
        "direct": dataclasses.replace(base, kind="kserve", address=server.triton_grpc),
        "service": dataclasses.replace(base, address=server.service),
    }
    if checkpoint is not None:
        for name, mode in (("pytorch", "eager"), ("pytorch-compiled", "compiled")):
            found = _in_process(base, version, PYTORCH_ENTRY, str(checkpoint), mode)
            reference = str(version / FP32_FILE)
            targets[name] = dataclasses.replace(found, tolerance_levels=PYTORCH_LEVELS, reference=reference)
    for name, peer in (peers or {}).items():
        # They serve the fp32 file, and may be starting still.
        found = _in_process(base, version, "", peer.url, "")
        targets[name] = dataclasses.replace(found, kind="http", wait_s=max(PEER_WAIT_S, options.wait_s))
    image = (certificate.height, certificate.width, certificate.channels)
    chosen = _chosen(targets, options)
    if not chosen:
        raise UsageError(f"--target must name some of {', '.join(targets)}; got {', '.join(options.targets)}.")
    return Subject(
        model=model,
        targets=chosen,
        image=image,
        pid=server.pid,
        metrics=server.metrics,
        notes=notes,
        peer_pids={name: peer.pid for name, peer in (peers or {}).items()},
    )


def given_subject(options: BenchOptions, model: str) -> Subject:
    """A model of a server that runs already.

    Raises:
        UserError: it cannot be asked what the model is.
    """
    metadata = (("authorization", f"Bearer {options.api_key}"),) if options.api_key else ()
    common = Target(kind="service", model=model, metadata=metadata, wait_s=options.wait_s)
    if options.address:
        return _ganvas_subject(options, common)
    golden: tuple[object, ...] = ()
    notes, image = [], None
    if options.repository is not None:
        certificate = Certificate.read(newest_version(options.repository, model))
        common = dataclasses.replace(common, golden=golden_rows(certificate), num_labels=len(certificate.labels))
        golden, image = common.golden, (certificate.height, certificate.width, certificate.channels)
    if not golden and not options.input_data:
        notes.append("answers not verified: no certificate is known (--repository); each must be as it was first")
    if options.http:
        target = dataclasses.replace(common, kind="http", address=options.http)
        return Subject(model=model, targets={"http": target}, image=image, notes=notes)
    data = str(options.input_data) if options.input_data else ""
    target = dataclasses.replace(common, kind="kserve", address=options.kserve or "", input_data=data)
    return Subject(model=model, targets={"kserve": target}, image=image, metrics=options.metrics, notes=notes)


def _ganvas_subject(options: BenchOptions, common: Target) -> Subject:
    assert options.address is not None
    try:
        with Sampler(options.address, api_key=options.api_key) as sampler:
            info = sampler.model(common.model, timeout_s=options.wait_s)
    except GanvasError as error:
        raise UserError(f"{options.address}: {error}") from None
    base, notes = _base(info, info.certificate(), options)
    base = dataclasses.replace(base, address=options.address, metadata=common.metadata, wait_s=options.wait_s)
    targets = {"direct": dataclasses.replace(base, kind="kserve"), "service": base}
    chosen = _chosen(targets, options)
    image = (info.height, info.width, info.channels)
    return Subject(model=common.model, targets=chosen, image=image, metrics=options.metrics, notes=notes)


def _chosen(targets: Mapping[str, Target], options: BenchOptions) -> dict[str, Target]:
    wanted: tuple[str, ...] = options.targets
    return {name: target for name, target in targets.items() if name in wanted}


def _base(info: ModelInfo, certificate: Certificate, options: BenchOptions) -> tuple[Target, list[str]]:
    """The service as a target, without its address."""
    file_name = next((name for name, file in certificate.files.items() if file.sha256 == info.digest), FP32_FILE)
    exact = info.golden == "exact"
    notes = (
        [] if exact else ["golden images are equivalent, not exact, on this processor: each must be as it was first"]
    )
    base = Target(
        kind="service",
        model=info.name,
        num_labels=len(info.labels),
        golden=golden_rows(certificate, file_name) if exact else (),
        threads=options.threads,
        wait_s=options.wait_s,
    )
    return base, notes


def _in_process(base: Target, version: Path, entry: str, address: str, mode: str) -> Target:
    """Its golden images are those of the fp32 file."""
    golden = golden_rows(Certificate.read(version)) if base.golden else ()
    return dataclasses.replace(base, kind="process", entry=entry, address=address, mode=mode, golden=golden)
