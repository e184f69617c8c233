"""A model that is quick to publish: files that look like an export's, with a real certificate."""

from __future__ import annotations

from pathlib import Path

from export.publish import publish
from export.repository import locked, staging
from ganvas_client.certificate import FORMAT, Certificate, FloatParity, Role


def certificate(name: str, version: int, *, role: Role = "sampler", max_batch_size: int = 16) -> Certificate:
    return Certificate(
        format=FORMAT,
        name=name,
        version=version,
        role=role,
        family="gan",
        height=8,
        width=8,
        channels=1,
        latent_dim=2,
        labels=(),
        truncation_max=1.5,
        max_batch_size=max_batch_size,
        opset=18,
        files={},
        attachments={},
        golden_atol_levels=3,
        float_parity=FloatParity(atol=1e-5, max_abs=0.0),
        num_parity_seeds=1,
        parity_batches=(1,),
        batch_invariant=True,
        created="2026-01-01T00:00:00+00:00",
        tools={},
        source={},
    )


def models(name: str, version: int, *, num_bytes: int = 1000) -> dict[str, dict[str, bytes]]:
    """NAME-decode and NAME, in the order of publishing."""
    roles: dict[str, Role] = {f"{name}-decode": "decode", name: "sampler"}
    return {
        triton_name: {
            "config.pbtxt": b"config %d" % version,
            "configs/cpu.pbtxt": b"config %d" % version,
            f"{version}/model.onnx": b"%d" % version * num_bytes,
            f"{version}/certificate.json": certificate(triton_name, version, role=role).to_json().encode(),
        }
        for triton_name, role in roles.items()
    }


def put(repository: Path, version: int, *, name: str = "digits", num_bytes: int = 1000) -> None:
    """Publish a fake version as the pipeline does."""
    with locked(repository), staging(repository) as staged:
        publish(staged, repository, name=name, version=version, models=models(name, version, num_bytes=num_bytes))
