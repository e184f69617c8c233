"""`python -m export.reprove CHECKPOINT VERSION_FOLDER`: a published version against its checkpoint, file by file.

`./ganvas verify --checkpoint` runs it in a process of its own, as serving imports no torch. Prints a JSON record a
line: check, passed, detail.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper
from PIL import Image
from torch import nn

from export.adapters.checkpoint import load_checkpoint
from export.adapters.source import Source
from export.errors import GateError
from export.graph.images import to_pixels
from export.graph.tensors import load_graph, open_graph
from export.proof import parity
from export.proof.cases import Cases, batch_sizes, make_cases, make_half_cases
from export.proof.half import NodeByNode
from export.proof.half_gate import judge_images, judge_posterior
from export.proof.prove import MAX_LEVELS, expect_half, posterior_reference, torch_reference
from ganvas_core.certificate import Certificate
from ganvas_core.cli import UserError
from ganvas_core.interface import joined, sample_inputs
from ganvas_core.names import FP16_FILE, FP32_FILE, GOLDEN_FILE, POSTERIORS_FILE, triton_name
from ganvas_core.session import CpuSession

__all__ = ["main", "reprove"]

Check = tuple[str, Callable[[], str]]

_NUM_SEEDS = 32


def reprove(source: Source, folder: Path) -> Iterator[Check]:
    """The proofs that need the network itself: a name, and what runs it and raises GateError.

    Args:
        folder: NAME/VERSION of the sampler.
    """
    certificate = Certificate.read(folder)
    source = dataclasses.replace(source, prior=certificate.prior)  # as --prior had it
    yield "checkpoint", partial(_check_checkpoint, source, certificate)
    cases = make_cases(num_golden=8, num_more=_NUM_SEEDS - 8, num_labels=len(source.labels))
    yield f"parity, {FP32_FILE}", partial(_check_fp32, source, certificate, folder, cases)
    if "encode" in certificate.roles and source.encoder is not None:
        beside = folder.parent.parent / triton_name(certificate.name, "encode") / folder.name
        encode = Certificate.read(beside)
        if encode.files[FP32_FILE].golden:
            yield POSTERIORS_FILE, partial(_check_posteriors, source, source.encoder, encode, beside)
    if FP16_FILE in certificate.files:
        yield f"half arithmetic, {FP16_FILE}", partial(_check_fp16, source, certificate, folder, cases)


def _check_checkpoint(source: Source, certificate: Certificate) -> str:
    given, certified = (each.get("checkpoint_sha256") for each in (source.provenance, certificate.source))
    if given != certified:
        raise GateError(f"the certificate names the weights {str(certified)[:16]}…, and these are {str(given)[:16]}….")
    return f"is the one that the certificate names, {str(given)[:16]}…"


def _check_fp32(source: Source, certificate: Certificate, folder: Path, cases: Cases) -> str:
    inputs = sample_inputs(cases.seeds, cases.truncation, cases.labels)
    batches = batch_sizes(certificate.max_batch_size)
    floats, reference = torch_reference(source, cases)
    network = open_graph(_float_images(load_graph(folder / FP32_FILE)), pinned_batch=certificate.pinned_batch)
    found = parity.check_floats(network, inputs, reference, cases, batches)
    (images,) = CpuSession(folder / FP32_FILE, pinned_batch=certificate.pinned_batch).run_in_batches(inputs, 1)
    expected = to_pixels(floats, source.image_range)
    pixels = parity.check_pixels(images, expected, cases, precision="fp32", max_levels=MAX_LEVELS[FP32_FILE])
    return (
        f"{found.max_abs:.1e} from PyTorch in {found.reference} (limit {found.atol:.1e}), images max "
        f"{pixels.max_levels} levels, {len(cases)} seeds"
    )


def _check_posteriors(source: Source, encoder: nn.Module, certificate: Certificate, folder: Path) -> str:
    """golden.npy is what the checkpoint's encoder makes of golden.png."""
    stored = np.load(folder / POSTERIORS_FILE, allow_pickle=False)
    with Image.open(folder / GOLDEN_FILE) as image:
        images = np.array(image, np.uint8).reshape(
            len(stored), certificate.height, certificate.width, certificate.channels
        )
    reference = posterior_reference(source, encoder, images)
    # Fewer images than the certificate's bound is from: PyTorch's own error over them may be smaller by chance.
    atol = max(reference.atol, certificate.float_parity.atol)
    found = parity.difference(stored, joined(reference.outputs)).max()
    if not found <= atol:
        raise GateError(f"{found:.1e} from PyTorch's posteriors in {reference.precision}, more than {atol:.1e}.")
    return f"{found:.1e} from PyTorch in {reference.precision} (limit {atol:.1e}), {len(stored)} golden images"


def _check_fp16(source: Source, certificate: Certificate, folder: Path, cases: Cases) -> str:
    half_cases = make_half_cases(
        num_seeds=certificate.num_half_seeds or 256,
        num_labels=len(source.labels),
        truncation_max=certificate.truncation_max,
    )
    inputs = sample_inputs(cases.seeds, cases.truncation, cases.labels)
    (images,) = CpuSession(folder / FP32_FILE, pinned_batch=certificate.pinned_batch).run_in_batches(inputs, 16)
    expected = expect_half(source, half_cases, images)
    batches = batch_sizes(certificate.max_batch_size)
    verdict = judge_images(NodeByNode(load_graph(folder / FP16_FILE)), expected.images, batches)
    failures = list(verdict.failures)
    if expected.posterior is not None:
        encoder = folder.parent.parent / triton_name(certificate.name, "encode") / folder.name / FP16_FILE
        failures += judge_posterior(NodeByNode(load_graph(encoder)), expected.posterior, batches).failures
    if failures:
        raise GateError(f"{'; '.join(failures)}.")
    pixels = verdict.pixels
    assert pixels is not None
    return (
        f"max {pixels.max_levels}, mean {pixels.mean_levels:.4f} levels, largest activation "
        f"{verdict.activations.peak:.3g}, {pixels.num_images} images"
    )


def _float_images(model: ModelProto) -> ModelProto:
    """The graph up to its float images, before they are rounded to uint8."""
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("image_float", TensorProto.FLOAT, None))
    return model


def main(arguments: list[str]) -> int:
    checkpoint, folder = map(Path, arguments)
    try:
        source = load_checkpoint(checkpoint)
    except UserError as error:
        print(f"export: {error}", file=sys.stderr)
        return error.exit_code
    for name, check in reprove(source, folder):
        try:
            record = {"check": name, "passed": True, "detail": check()}
        except GateError as error:
            record = {"check": name, "passed": False, "detail": str(error)}
        print(json.dumps(record), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
