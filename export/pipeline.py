"""The export: build → prove fp32 → find and prove fp16 → certify → publish.

Everything up to the last step happens in memory and in a temporary folder, where the weights lie, so a model that fails
its proof leaves nothing on disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.adapters.source import Source
from export.errors import BatchDependenceError, GateError, first_line
from export.graph.build import Graphs, Networks, build_graphs, export_networks
from export.graph.guards import check_on_gpu
from export.graph.tensors import weights_in_files
from export.options import ExportOptions
from export.precision.mixed import add_fp16
from export.proof.cases import batch_sizes
from export.proof.prove import Proof, prove
from export.publish.certify import certificates, golden_files
from export.publish.files import version_files
from export.publish.onnx_file import EXTERNAL_BYTES, write_graphs
from export.publish.publish import publish
from export.publish.repository import check_folder, check_new_version, locked, staging, versions_of
from export.report.page import report_html
from export.surgery.batch_invariance import first_dependent_node, invariance_feeds, make_batch_invariant
from export.surgery.simplify import Change, simplify
from ganvas_core.certificate import Certificate, read_samplers
from ganvas_core.interface import sample_inputs
from ganvas_core.names import FP32_FILE, REPORT_FILE
from ganvas_core.session import CpuSession, SessionError

__all__ = ["ExportResult", "export_model"]

NUM_TIMED = 4
"""Runs that the time of an image is the best of."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    name: str
    version: int
    folder: Path
    """NAME/VERSION, which holds the certificate."""
    certificate: Certificate
    """The sampler's."""
    seconds: float
    changes: tuple[Change, ...]
    """What surgery removed from the networks."""


def export_model(
    source: Source,
    options: ExportOptions,
    *,
    report: Callable[[str], None] = lambda step: None,
    external_bytes: int = EXTERNAL_BYTES,
) -> ExportResult:
    """Export a trained network as a new version of a model.

    Args:
        source: a checkpoint's, from export.adapters.checkpoint, or any network's.
        report: called with each step, in a few words.
        external_bytes: weights beyond this lie in a file beside their graph.
    Raises:
        InputError: the name or the repository cannot be used.
        GateError: a graph failed its proof.
        PublishError: I/O or permission error. In each case nothing was published.
    """
    start = time.monotonic()
    check_folder(options.repository)
    check_new_version(options.repository, source, options)
    with weights_in_files() as folder:
        try:
            certificate, changes = _export(source, options, folder, report, external_bytes)
        except SessionError as error:
            raise GateError(f"{first_line(error)} Make forward take any batch, label and latent.") from None
    return ExportResult(
        name=options.name,
        version=certificate.version,
        folder=options.repository / options.name / str(certificate.version),
        certificate=certificate,
        seconds=time.monotonic() - start,
        changes=changes,
    )


def _export(
    source: Source, options: ExportOptions, folder: Path, report: Callable[[str], None], external_bytes: int
) -> tuple[Certificate, tuple[Change, ...]]:
    """The sampler's certificate, and what surgery did. Weights lie in `folder`."""
    name, repository = options.name, options.repository

    report("building the graphs")
    networks, changes = _operate(export_networks(source), source, options)
    graphs = build_graphs(source, networks)

    report("proving them against PyTorch")
    proof = _prove_or_pin(source, graphs, options)
    no_fp16 = None
    if options.precision != "fp32":
        mixed = add_fp16(source, graphs, proof, options, report=report)
        graphs, proof, no_fp16 = mixed.graphs, mixed.proof, mixed.no_fp16

    # The files, as they will be published.
    report("publishing")
    files = write_graphs(
        {key: graph.model for key, graph in graphs.files.items()}, folder / "files", external_bytes=external_bytes
    )
    for file in files.values():
        check_on_gpu(file.path)
    image_s = _seconds_an_image(files["sample", FP32_FILE].path, source, options)
    with locked(repository):
        check_new_version(repository, source, options)
        version = max(versions_of(repository / name), default=0) + 1
        beside = golden_files(source, proof)
        written = certificates(
            source,
            graphs,
            proof,
            name=name,
            version=version,
            max_batch_size=options.max_batch_size,
            files=files,
            golden=beside,
            no_fp16=no_fp16,
        )

        # The report goes with the sampler.
        page = report_html(written["sample"], graphs, proof, changes=changes, rewritten=networks.rewritten).encode()
        attachments = written["sample"].attachments | {REPORT_FILE: hashlib.sha256(page).hexdigest()}
        written["sample"] = dataclasses.replace(written["sample"], attachments=attachments)
        beside["sample"][REPORT_FILE] = page

        models = version_files(
            source,
            graphs,
            files,
            written,
            options,
            version=version,
            earlier=read_samplers(repository / name),
            image_s=image_s,
            beside=beside,
        )
        with staging(repository) as staged:
            publish(staged, repository, name=name, version=version, models=models)
    return written["sample"], changes


def _seconds_an_image(sampler: Path, source: Source, options: ExportOptions) -> float:
    """How long a sampler takes for one image on this machine: the best of a few runs."""
    cpu = CpuSession(sampler, threads=options.threads)
    feeds = sample_inputs(np.zeros(1, np.uint64), labels=0 if source.labels else None)
    times = []
    for _ in range(NUM_TIMED):
        begin_s = time.perf_counter()
        cpu.run(feeds)
        times.append(time.perf_counter() - begin_s)
    return min(times)


def _operate(networks: Networks, source: Source, options: ExportOptions) -> tuple[Networks, tuple[Change, ...]]:
    """Simplify the networks, and write the products another way whose rows depend on the batch."""
    batches = batch_sizes(options.max_batch_size)
    feeds, encoder_feeds = invariance_feeds(source, max(batches))
    generator, changes = simplify(networks.generator, feeds, threads=options.threads)
    generator, rewritten = make_batch_invariant(generator, feeds, batches, threads=options.threads)
    encoder = networks.encoder
    if encoder is not None:
        encoder, more_changes = simplify(encoder, encoder_feeds, threads=options.threads)
        changes += more_changes
        encoder, more = make_batch_invariant(encoder, encoder_feeds, batches, threads=options.threads)
        rewritten |= more
    return Networks(generator=generator, encoder=encoder, rewritten=rewritten), tuple(changes)


def _prove_or_pin(source: Source, graphs: Graphs, options: ExportOptions) -> Proof:
    """Prove the graphs in every batch size, or where an image depends on its batch, pinned to one.

    Raises:
        GateError: an image depends on what else is in its batch, or another proof failed.
    """
    try:
        return prove(source, graphs, options)
    except BatchDependenceError:
        pinned = options.max_batch_size
    try:
        return prove(source, graphs, options, pinned_batch=pinned)
    except BatchDependenceError as error:
        feeds, _ = invariance_feeds(source, pinned)
        node = first_dependent_node(graphs.network.model, feeds, batch_sizes(pinned), threads=options.threads)
        first = f" The first node that does is {node}." if node else ""
        raise GateError(
            f"{error}{first} Batches filled up to {pinned}, always, do not prevent it: make the network compute each "
            "image from its own row alone."
        ) from None
