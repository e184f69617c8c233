"""What is measured: one model, and the targets that lead to it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clients.bench.here import serve_pid
from clients.bench.options import BenchOptions
from clients.bench.peers import Peer
from clients.bench.targets import Target, golden_rows
from clients.bench.targets.inprocess import ONNX_ENTRY
from clients.bench.targets.input_data import read_input_data
from clients.local_server import LocalServer
from ganvas_client import GanvasError, ModelInfo, Sampler, UnauthenticatedError, UnavailableError
from ganvas_client.errors import KEY_WANTED
from ganvas_core.certificate import Certificate, CertificateError
from ganvas_core.cli import UsageError, UserError
from ganvas_core.names import CERTIFICATE_FILE, FP32_FILE, is_model_name

__all__ = ["Subject", "given_subject", "local_subject", "newest_version"]

PYTORCH_ENTRY = "benchmarks.pytorch:open_checkpoint"
PEER_WAIT_S = 60.0
STARTING_PAUSE_S = 0.2
LEAST_S = 0.1
NOT_VERIFIED = "answers not verified"
KEY_OF_VERB = "Set GANVAS_API_KEY to a key that is valid"
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
    if not repository.is_dir():
        why = "this is a file" if repository.exists() else "there is none"
        raise UsageError(f"--repository {repository}: {why}. Give the folder that ./ganvas export writes to.")
    versions = [
        path.parent for path in (repository / model).glob(f"*/{CERTIFICATE_FILE}") if path.parent.name.isdigit()
    ]
    if not versions or not is_model_name(model):
        there = {path.parents[1].name for path in repository.glob(f"*/*/{CERTIFICATE_FILE}")}
        samplers = sorted(filter(is_model_name, there)) or ["none"]
        why = "is no sampler" if versions else f"is not in --repository {repository}"
        raise UsageError(f"--model {model} {why}. There are: {', '.join(samplers)}.")
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
    """A model of a repository that this machine serves.

    Raises:
        UserError: it cannot be asked what the model is.
    """
    version = newest_version(repository, model)
    certificate = _certificate(version)
    base, notes = _base(_asked(server.service, options, model), certificate, options)
    targets = {
        "onnxruntime": _in_process(base, version, ONNX_ENTRY, str(version / FP32_FILE), ""),
        "direct": dataclasses.replace(base, kind="kserve", address=server.triton_grpc),
        "service": dataclasses.replace(base, address=server.service, tls=options.tls),
    }
    if checkpoint is not None:
        for name, mode in (("pytorch", "eager"), ("pytorch-compiled", "compiled")):
            found = _in_process(base, version, PYTORCH_ENTRY, str(checkpoint), mode)
            reference = str(version / FP32_FILE)
            targets[name] = dataclasses.replace(found, tolerance_levels=PYTORCH_LEVELS, reference=reference)
    for name, peer in (peers or {}).items():
        # They serve the fp32 file, and may be starting still.
        found = _in_process(base, version, "", peer.url, "")
        wait_s = max(PEER_WAIT_S, options.wait_s)
        targets[name] = dataclasses.replace(found, kind="http", metadata=(), wait_s=wait_s)
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
    if options.address:
        return _ganvas_subject(options, options.address, model)
    common = Target(kind="http", model=model, metadata=_metadata(options), tls=options.tls, wait_s=options.wait_s)
    notes, image = [], None
    if options.repository is not None:
        certificate = _certificate(newest_version(options.repository, model))
        image = (certificate.height, certificate.width, certificate.channels)
        common = dataclasses.replace(common, golden=golden_rows(certificate), num_labels=len(certificate.labels))
    if options.input_data is not None:
        common = dataclasses.replace(common, golden=())  # of other requests
        notes += _input_data_notes(options.input_data)  # before anybody is asked
    elif not common.golden:
        notes.append(f"{NOT_VERIFIED}: no certificate is known (--repository); each must be as it was first")
    if options.http:
        target = dataclasses.replace(common, kind="http", address=options.http)
        return Subject(model=model, targets={"http": target}, image=image, notes=notes)
    data = str(options.input_data) if options.input_data else ""
    target = dataclasses.replace(common, kind="kserve", address=options.kserve or "", input_data=data)
    return Subject(
        model=model,
        targets={"kserve": target},
        image=image,
        pid=serve_pid(target.address),
        metrics=options.metrics,
        notes=notes,
    )


def _certificate(version: Path) -> Certificate:
    try:
        return Certificate.read(version)
    except CertificateError as error:
        raise UserError(str(error)) from None


def _metadata(options: BenchOptions) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {options.api_key}"),) if options.api_key else ()


def _input_data_notes(path: Path) -> list[str]:
    """Whether the file has the right answers."""
    answers = read_input_data(path).validation_data or []
    if answers and all(answers):
        return []
    what = "has none for some requests" if any(answers) else "is missing"
    return [f"{NOT_VERIFIED}: validation_data of --input-data {what}; each answer must be as it was first"]


def _ganvas_subject(options: BenchOptions, address: str, model: str) -> Subject:
    info = _asked(address, options, model)
    try:
        certificate = info.certificate()
    except (GanvasError, CertificateError) as error:
        raise UserError(f"{address}: {error}") from None
    base, notes = _base(info, certificate, options)
    base = dataclasses.replace(base, address=address, tls=options.tls)
    targets = {"direct": dataclasses.replace(base, kind="kserve"), "service": base}
    chosen = _chosen(targets, options)
    if not chosen:
        raise UsageError(f"--target must be direct or service with --address; got {', '.join(options.targets)}.")
    image = (info.height, info.width, info.channels)
    pid = serve_pid(address)
    return Subject(model=model, targets=chosen, image=image, pid=pid, metrics=options.metrics, notes=notes)


def _asked(address: str, options: BenchOptions, model: str) -> ModelInfo:
    """What the service says of the model. One that is starting is waited for; what it says last tells why."""
    until_s = time.monotonic() + options.wait_s
    while True:
        try:
            # Each time anew: a channel that found nobody asks again later and later.
            with Sampler(address, api_key=options.api_key, credentials=options.credentials()) as sampler:
                return sampler.model(model, timeout_s=max(LEAST_S, until_s - time.monotonic()))
        except UnauthenticatedError as error:
            raise UserError(f"{address}: {str(error).replace(KEY_WANTED[1], KEY_OF_VERB)}") from None
        except GanvasError as error:
            is_starting = isinstance(error, UnavailableError)
            if not is_starting or time.monotonic() + STARTING_PAUSE_S > until_s:
                told = str(error) if address in str(error) else f"{address}: {error}"
                raise UserError(f"{told} --wait-s waits longer." if is_starting else told) from None
        time.sleep(STARTING_PAUSE_S)


def _chosen(targets: Mapping[str, Target], options: BenchOptions) -> dict[str, Target]:
    wanted: tuple[str, ...] = options.targets
    return {name: target for name, target in targets.items() if name in wanted}


def _base(info: ModelInfo, certificate: Certificate, options: BenchOptions) -> tuple[Target, list[str]]:
    """The service as a target, without its address."""
    file_name = next((name for name, file in certificate.files.items() if file.sha256 == info.digest), FP32_FILE)
    exact = info.golden == "exact"
    why = "golden images are equivalent, not exact, on this processor"
    notes = [] if exact else [f"{NOT_VERIFIED}: {why}; each must be as it was first"]
    base = Target(
        kind="service",
        model=info.name,
        num_labels=len(info.labels),
        golden=golden_rows(certificate, file_name) if exact else (),
        metadata=_metadata(options),
        threads=options.threads,
        wait_s=options.wait_s,
    )
    return base, notes


def _in_process(base: Target, version: Path, entry: str, address: str, mode: str) -> Target:
    """Its golden images are those of the fp32 file."""
    golden = golden_rows(_certificate(version)) if base.golden else ()
    return dataclasses.replace(base, kind="process", entry=entry, address=address, mode=mode, golden=golden)
