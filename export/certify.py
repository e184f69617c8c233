"""The certificate of each Triton model of an export, and the image that goes with the sampler's."""

from __future__ import annotations

import datetime
import hashlib
import io
import platform

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from export.contract import OPSET, TRUNCATION_MAX, Role, triton_name
from export.graphs import FP16_FILE, FP32_FILE, PRECISIONS, Graphs
from export.prove import MAX_LEVELS, Proof
from export.source import Source
from ganvas_client.certificate import FORMAT, Certificate, FloatParity, Golden, ModelFile

__all__ = ["certificates", "golden_png"]

_GOLDEN_ATOL_LEVELS = MAX_LEVELS[FP16_FILE] + 1
"""An fp16 image may be off PyTorch's by its gate, and the fp32 one in golden.png by one level more."""


def certificates(
    source: Source, graphs: Graphs, proof: Proof, *, name: str, version: int, max_batch_size: int
) -> dict[Role, Certificate]:
    """What `proof` says of each role, for version `version` of model `name`."""
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        role: Certificate(
            format=FORMAT,
            name=triton_name(name, role),
            version=version,
            role=role,
            family=source.family,
            height=source.height,
            width=source.width,
            channels=source.channels,
            latent_dim=source.latent_dim,
            labels=source.labels,
            truncation_max=TRUNCATION_MAX,
            max_batch_size=max_batch_size,
            opset=OPSET,
            files={file_name: _model_file(role, file_name, graphs, proof) for file_name in PRECISIONS},
            attachments={"golden.png": _sha256(golden_png(source, proof))} if role == "sampler" else {},
            golden_atol_levels=_GOLDEN_ATOL_LEVELS,
            float_parity=_float_parity(role, proof),
            num_parity_seeds=len(proof.cases.seeds),
            parity_batches=proof.batches,
            batch_invariant=True,
            created=created,
            tools=_tools(),
            source=source.provenance,
        )
        for role in graphs.roles
    }


def golden_png(source: Source, proof: Proof) -> bytes:
    """The fp32 golden images from top to bottom, as a PNG that says it is machine-made."""
    images = proof.images[FP32_FILE][: proof.num_golden]
    tall: NDArray[np.uint8] = images.reshape(-1, source.width, source.channels)
    text = PngInfo()
    text.add_text("Software", "Ganvas, machine-made image")
    text.add_text("Description", "Machine-made: golden images of a generative model, from top to bottom.")
    text.add_text("ganvas:machine-made", "true")
    text.add_text("ganvas:golden", "; ".join(proof.cases.describe(i) for i in range(proof.num_golden)))
    file = io.BytesIO()
    image = Image.fromarray(tall[:, :, 0] if source.channels == 1 else tall)
    image.save(file, format="PNG", pnginfo=text)
    return file.getvalue()


def _model_file(role: Role, file_name: str, graphs: Graphs, proof: Proof) -> ModelFile:
    data = graphs.files[role, file_name].data
    images = role != "encode"
    return ModelFile(
        sha256=_sha256(data),
        num_bytes=len(data),
        precision="fp32" if file_name == FP32_FILE else "fp16",
        fp32_nodes=graphs.fp32_nodes[role] if file_name == FP16_FILE else {},
        pixel_parity=proof.pixel_parity[file_name] if images else None,
        float_parity=None if images else proof.posterior_parity[file_name],
        golden=_golden(file_name, proof) if images else (),
    )


def _golden(file_name: str, proof: Proof) -> tuple[Golden, ...]:
    cases = proof.cases
    return tuple(
        Golden(
            seed=int(cases.seeds[i]),
            truncation=float(cases.truncation[i]),
            label=None if cases.labels is None else int(cases.labels[i]),
            sha256=_sha256(proof.images[file_name][i].tobytes()),
        )
        for i in range(proof.num_golden)
    )


def _float_parity(role: Role, proof: Proof) -> FloatParity:
    if role != "encode":
        return proof.float_parity
    return proof.posterior_parity[FP32_FILE]


def _tools() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
