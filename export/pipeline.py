"""The export itself: load → build → prove → certify → publish.

Everything up to the last step happens in memory, so a checkpoint that fails its proof leaves no trace on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.certify import certificates, golden_png
from export.errors import InputError
from export.graphs import Graphs, build_graphs, export_networks, interface_of
from export.options import ExportOptions
from export.prove import Proof, prove
from export.publish import publish
from export.repository import Promise, check_folder, check_promise, locked, staging, versions_of
from export.source import Source, load_source
from export.triton_config import CONFIG_NAMES, DEFAULT_CONFIG, ServingOptions, config_text
from ganvas_core.certificate import Certificate
from ganvas_core.names import CERTIFICATE_FILE, CONFIG_FILE, FP16_FILE, FP32_FILE, GOLDEN_FILE, Role, check_model_name

__all__ = ["ExportOptions", "ExportResult", "export_checkpoint", "quiet"]


def quiet(message: str) -> None:
    """Report nothing."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    name: str
    version: int
    folder: Path
    """NAME/VERSION, which holds the certificate."""
    certificate: Certificate
    """The sampler's."""
    seconds: float


def export_checkpoint(
    checkpoint: Path,
    repository: Path,
    *,
    name: str,
    options: ExportOptions = ExportOptions(),  # noqa: B008 (frozen)
    report: Callable[[str], None] = quiet,
) -> ExportResult:
    """Export a checkpoint folder as a new version of model `name`.

    Args:
        report: told each step, in a few words.
    Raises:
        InputError: the name, the checkpoint or the repository is not one that can be used.
        GateError: a graph failed its proof.
        PublishError: the disk or its rights got in the way. In each case nothing was published.
    """
    start = time.monotonic()
    try:
        check_model_name(name)
    except ValueError as error:
        raise InputError(f"--name {error}") from None
    check_folder(repository)
    report("reading the checkpoint")
    source = load_source(checkpoint)
    promise = _promise(source, options)
    check_promise(repository, name, promise)
    report("building the graphs")
    graphs = build_graphs(source, export_networks(source), keep_fp32=options.fp32_nodes)
    report("proving them against PyTorch")
    proof = prove(source, graphs, options)
    report("publishing")
    with locked(repository):
        check_promise(repository, name, promise)
        version = max(versions_of(repository / name), default=0) + 1
        written = certificates(source, graphs, proof, name=name, version=version, max_batch_size=options.max_batch_size)
        models = {
            certificate.name: _files(role, source, graphs, proof, options, certificate)
            for role, certificate in written.items()
        }
        with staging(repository) as staged:
            publish(staged, repository, name=name, version=version, models=models)
    return ExportResult(
        name=name,
        version=version,
        folder=repository / name / str(version),
        certificate=written["sample"],
        seconds=time.monotonic() - start,
    )


def _promise(source: Source, options: ExportOptions) -> Promise:
    return Promise(
        family=source.family,
        height=source.height,
        width=source.width,
        channels=source.channels,
        latent_shape=source.latent_shape,
        labels=source.labels,
        max_batch_size=options.max_batch_size,
    )


def _files(
    role: Role, source: Source, graphs: Graphs, proof: Proof, options: ExportOptions, certificate: Certificate
) -> dict[str, bytes]:
    """Every file of one Triton model."""
    serving = ServingOptions(
        max_batch_size=options.max_batch_size, instances=options.instances, threads=options.threads
    )
    configs = {
        config_name: config_text(config_name, certificate.name, interface_of(role, source), serving).encode()
        for config_name in CONFIG_NAMES
    }
    folder = str(certificate.version)
    files = {
        CONFIG_FILE: configs[DEFAULT_CONFIG],
        **{f"configs/{config_name}.pbtxt": text for config_name, text in configs.items()},
        f"{folder}/{FP32_FILE}": graphs.files[role, FP32_FILE].data,
        f"{folder}/{FP16_FILE}": graphs.files[role, FP16_FILE].data,
    }
    if role == "sample":
        files[f"{folder}/{GOLDEN_FILE}"] = golden_png(source, proof)
    files[f"{folder}/{CERTIFICATE_FILE}"] = certificate.to_json().encode()
    return files
