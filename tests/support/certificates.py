"""Served models described by hand, for tests of the service's logic that run no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ganvas_core.certificate import FORMAT, Certificate, FloatParity
from ganvas_core.names import Role
from ganvas_core.noise import ALGORITHM
from serving.options import ServeOptions
from serving.repository.reader import ModelVersion
from serving.service.inference.catalog import ServedModel


def certificate(name: str, role: Role, **fields: Any) -> Certificate:
    """A conditional 4x6x3 model with 5 latent dimensions, unless `fields` say otherwise."""
    values: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "version": 1,
        "role": role,
        "roles": ("sample", "decode"),
        "family": "gan",
        "height": 4,
        "width": 6,
        "channels": 3,
        "noise": ALGORITHM,
        "latent_shape": (5,),
        "labels": ("cat", "dog", "owl"),
        "truncation": "latent",
        "truncation_max": 1.5,
        "max_batch_size": 16,
        "opset": 18,
        "files": {},
        "attachments": {},
        "golden_atol_levels": 3,
        "float_parity": FloatParity(atol=1e-5, max_abs=0.0),
        "num_parity_seeds": 1,
        "parity_batches": (1,),
        "batch_invariant": True,
        "created": "2026-01-01T00:00:00+00:00",
        "tools": {},
        "source": {},
    }
    return Certificate(**values | fields)


def without_golden_posteriors(folder: Path) -> None:
    """Make an encoder's folder what releases before certificate format 5 wrote."""
    data = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    data["format"] = 4
    for file in data["files"].values():
        del file["golden_atol"]
        file["golden"] = []
    for name in ("golden.png", "golden.npy"):
        del data["attachments"][name]
        (folder / name).unlink()
    (folder / "certificate.json").write_text(json.dumps(data), encoding="utf-8")


def served_model(
    name: str = "pets",
    *,
    version: int = 1,
    digest: str = "d1" * 32,
    options: ServeOptions | None = None,
    **fields: Any,
) -> ServedModel:
    """Fields go to the certificates."""
    entry = ModelVersion(
        name=name,
        version=version,
        folder=Path(name) / str(version),
        file_name="model.onnx",
        digest=digest,
        precision="fp32",
        certificate=certificate(name, "sample", version=version, **fields),
        decode=certificate(f"{name}-decode", "decode", version=version, **fields),
        encode=None,
    )
    return ServedModel(entry=entry, golden="exact", options=options or ServeOptions())
