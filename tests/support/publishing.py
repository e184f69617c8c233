"""A model that is quick to publish: files that look like an export's, with a real certificate."""

from __future__ import annotations

from pathlib import Path

from export.publish.publish import publish
from export.publish.repository import locked, staging
from ganvas_core.names import Role, triton_name
from tests.support.certificates import certificate


def models(name: str, version: int, *, num_bytes: int = 1000) -> dict[str, dict[str, bytes]]:
    """NAME-decode and NAME, in the order of publishing."""
    roles: tuple[Role, ...] = ("decode", "sample")
    return {
        triton_name(name, role): {
            "config.pbtxt": b"config %d" % version,
            "configs/cpu.pbtxt": b"config %d" % version,
            f"{version}/model.onnx": b"%d" % version * num_bytes,
            f"{version}/certificate.json": certificate(triton_name(name, role), role, version=version)
            .to_json()
            .encode(),
        }
        for role in roles
    }


def put(repository: Path, version: int, *, name: str = "digits", num_bytes: int = 1000) -> None:
    """Publish a fake version as the pipeline does."""
    with locked(repository), staging(repository) as staged:
        publish(staged, repository, name=name, version=version, models=models(name, version, num_bytes=num_bytes))
