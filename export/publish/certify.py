"""The certificate of each Triton model of an export, and the golden images and posteriors beside it."""

from __future__ import annotations

import datetime
import hashlib
import io
import platform
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from export.adapters.source import Source
from export.graph.build import PRECISIONS, Graphs
from export.graph.writer import OPSET
from export.precision.plan import Plan, clipped_by
from export.proof.prove import MAX_LEVELS, Proof
from export.publish.onnx_file import GraphFile
from ganvas_core import noise
from ganvas_core.certificate import FORMAT, Certificate, Golden, ModelFile
from ganvas_core.interface import TRUNCATION_MAX
from ganvas_core.names import FP16_FILE, FP32_FILE, GOLDEN_FILE, POSTERIORS_FILE, Role, triton_name
from ganvas_core.provenance import encode_image, image_text

__all__ = ["certificates", "golden_files"]

_GOLDEN_ATOL_LEVELS = MAX_LEVELS[FP16_FILE] + 1
"""An fp16 image may be off PyTorch's by its gate, and the fp32 one in golden.png by one level more."""

_OTHER_PROCESSOR = 10
"""On another kind of processor an fp32 posterior may differ by so many times the bound that it is proven to here. That
bound is a few times the rounding of plain sums, and algorithms that GPUs take, as Winograd's for convolutions, round an
order of magnitude more. A wrong weight or kernel is further away."""


def certificates(
    source: Source,
    graphs: Graphs,
    proof: Proof,
    *,
    name: str,
    version: int,
    max_batch_size: int,
    files: Mapping[tuple[Role, str], GraphFile],
    golden: Mapping[Role, Mapping[str, bytes]],
    no_fp16: str | None = None,
) -> dict[Role, Certificate]:
    """What `proof` says of each role, for version `version` of model `name`.

    Args:
        files: of each role and file name, as it will be published.
        golden: from golden_files.
    """
    height, width, channels = source.image
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        role: Certificate(
            format=FORMAT,
            name=triton_name(name, role),
            version=version,
            role=role,
            roles=source.roles,
            family=source.family,
            height=height,
            width=width,
            channels=channels,
            noise=noise.ALGORITHM,
            latent_shape=source.latent_shape,
            labels=source.labels,
            truncation=source.truncation,
            truncation_max=TRUNCATION_MAX,
            max_batch_size=max_batch_size,
            opset=OPSET,
            files={
                file_name: _model_file(role, file_name, graphs, proof, files[role, file_name])
                for file_name in proof.images
            },
            attachments=_attachments(role, files, golden.get(role, {})),
            golden_atol_levels=_GOLDEN_ATOL_LEVELS,
            float_parity=proof.posterior_parity[FP32_FILE] if role == "encode" else proof.float_parity,
            num_parity_seeds=len(proof.cases.seeds),
            parity_batches=proof.batches,
            batch_invariant=True,
            created=created,
            tools=_tools(),
            source=source.provenance,
            num_half_seeds=proof.num_half_seeds,
            no_fp16=no_fp16,
            pinned_batch=proof.pinned_batch,
            prior=source.prior,
        )
        for role in graphs.roles
    }


def golden_files(source: Source, proof: Proof) -> dict[Role, dict[str, bytes]]:
    """What goes beside the model files of a role, by file name: the golden images, and of encode their posteriors too.

    The encoder gets the images as well, so that its folder alone is enough to prove it: it may be copied, staged or
    served without the sampler's, or be loaded while that one is replaced.
    """
    image = _golden_png(source, proof)
    found: dict[Role, dict[str, bytes]] = {"sample": {GOLDEN_FILE: image}}
    if proof.posteriors:
        file = io.BytesIO()
        np.save(file, _little_endian(proof.posteriors[FP32_FILE]), allow_pickle=False)
        found["encode"] = {GOLDEN_FILE: image, POSTERIORS_FILE: file.getvalue()}
    return found


def _golden_png(source: Source, proof: Proof) -> bytes:
    """The fp32 golden images from top to bottom, as a PNG that says it is AI-generated."""
    images = proof.images[FP32_FILE][: proof.num_golden]
    tall: NDArray[np.uint8] = images.reshape(-1, *source.image[1:])
    golden = "; ".join(proof.cases.describe(i) for i in range(proof.num_golden))
    return encode_image(tall, "png", image_text("AI-generated: golden images, from top to bottom.", {"golden": golden}))


def _tools() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def _attachments(
    role: Role, files: Mapping[tuple[Role, str], GraphFile], golden: Mapping[str, bytes]
) -> dict[str, str]:
    """Name to SHA-256 of what lies beside the model files of a role: their external data, and what is golden."""
    found = {
        file.data.name: file.data_sha256
        for (of_role, _), file in files.items()
        if of_role == role and file.data is not None and file.data_sha256 is not None
    }
    return found | {name: _sha256(data) for name, data in golden.items()}


def _model_file(role: Role, file_name: str, graphs: Graphs, proof: Proof, file: GraphFile) -> ModelFile:
    images, cases = role != "encode", proof.cases
    half = PRECISIONS[file_name] == "fp16"
    names = {node.name for node in graphs.files[role, file_name].model.graph.node}
    plan = graphs.plans[role] if half else Plan()
    network = graphs.encoder if role == "encode" and graphs.encoder is not None else graphs.network
    answers = proof.images[file_name] if images else _little_endian(proof.posteriors[file_name])
    golden = tuple(
        Golden(
            seed=int(cases.seeds[i]),
            truncation=float(cases.truncation[i]),
            label=None if cases.labels is None else int(cases.labels[i]),
            sha256=_sha256(answers[i].tobytes()),
        )
        for i in range(proof.num_golden)
    )
    return ModelFile(
        sha256=file.sha256,
        num_bytes=file.num_bytes,
        precision="fp16" if half else "fp32",
        fp32_nodes={node: reason for node, reason in plan.kept.items() if node in names},
        rescaled={node: exponent for node, exponent in plan.exponents.items() if node in names},
        clipped=clipped_by(network.model, plan),
        activations=proof.half[role].activations if half else None,
        pixel_parity=proof.pixel_parity[file_name] if images else None,
        float_parity=None if images else proof.posterior_parity[file_name],
        golden=golden,
        golden_atol=None if images else _golden_atol(file_name, proof),
    )


def _golden_atol(file_name: str, proof: Proof) -> float:
    """How far a file's posteriors may be from golden.npy on another kind of processor, relative where beyond 1.

    That file is in float32, so an fp16 file is allowed its own gate against PyTorch in float32 beside it.
    """
    atol = _OTHER_PROCESSOR * proof.posterior_parity[FP32_FILE].atol
    return atol if file_name == FP32_FILE else atol + proof.posterior_parity[file_name].atol


def _little_endian(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.dtype("<f4"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
