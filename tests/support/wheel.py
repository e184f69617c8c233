"""`python -m tests.support.wheel REPOSITORY PYTHON…`: the client's wheel in an empty environment of each interpreter.

Each installs the wheel and what it needs from the package index, nothing else, and calls a running server.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from clients.local_server import local_server

__all__ = ["build"]

CLIENT = Path(__file__).parents[2] / "clients" / "python"

PROGRAM = """
import asyncio, sys
import ganvas_client
from ganvas_client import AsyncSampler, Sampler

service, triton = sys.argv[1:]
with Sampler(service) as sampler, Sampler.direct(triton) as direct:
    name = sampler.models()[0].name
    images = sampler.sample(name, range(40))
    assert images.bytes == direct.sample(name, range(40)).bytes
    assert images.bytes == [image.bytes for image in sampler.sample_stream(name, range(40))]
    assert sampler.sample(name, 1, format="png")[0].bytes.startswith(b"\\x89PNG")

async def main():
    async with AsyncSampler(service) as sampler:
        assert (await sampler.sample(name, range(40))).bytes == images.bytes

asyncio.run(main())
print("ok", sys.version.split()[0], ganvas_client.__file__)
"""


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, built from a copy of the sources in `folder`."""
    source = folder / "source"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    made = []
    for kind in ("wheel", "sdist"):
        program = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
        done = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True, check=True)
        made.append(folder / done.stdout.splitlines()[-1])
    return made[0], made[1]


def main(repository: str, *interpreters: str) -> None:
    with tempfile.TemporaryDirectory() as scratch, local_server(Path(repository)) as served:
        wheel, _ = build(Path(scratch))
        for number, interpreter in enumerate(interpreters):
            environment = Path(scratch) / f"venv{number}"
            subprocess.run([interpreter, "-m", "venv", environment], check=True)
            python = environment / "bin" / "python"
            subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
            listed = subprocess.run(
                [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
            )
            print(" ".join(listed.stdout.split()), flush=True)
            command = [str(python), "-I", "-c", PROGRAM, served.service, served.triton_grpc]
            subprocess.run(command, cwd=scratch, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
