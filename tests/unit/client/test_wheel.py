"""The wheel and the sdist hold the library and its types, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import ganvas_client
from tests.support.wheel import CLIENT, build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"))


def sources() -> set[str]:
    folder = CLIENT / "src"
    kinds = (".py", ".pyi", ".typed")
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in kinds}


def test_wheel_and_sdist_hold_every_source(built: tuple[Path, Path]) -> None:
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    assert names == sources()
    assert [line for line in text.splitlines() if line.startswith("Requires-")] == [
        "Requires-Python: >=3.11",
        "Requires-Dist: grpcio>=1.81",
        "Requires-Dist: numpy>=1.26",
        "Requires-Dist: protobuf>=6.31",
        'Requires-Dist: Pillow; extra == "images"',
    ]
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/src/")[2] for name in packed.getnames() if "/src/" in name}
    assert sources() <= inside


def test_library_works_from_the_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(built[0])!r}); import ganvas_client; "
        "print(ganvas_client.__file__, *ganvas_client.__all__); print(ganvas_client.latents([42], 2).tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    file, *names = done.splitlines()[0].split()
    assert file.startswith(str(built[0]))
    assert names == ganvas_client.__all__
    assert done.splitlines()[1] == ganvas_client.latents([42], 2).tobytes().hex()
