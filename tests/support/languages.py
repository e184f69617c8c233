"""The examples of clients/node and clients/go: how to run them, and what they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODE, GO = ROOT / "clients" / "node", ROOT / "clients" / "go"
GO_PACKAGES = Path("/usr/share/gocode")
GO_DEBIAN = (
    "golang-google-grpc-dev golang-google-protobuf-dev golang-github-golang-protobuf-1-5-dev protoc-gen-go "
    "protoc-gen-go-grpc"
)
"""Debian's, and the packages that put them there."""


def missing_for_node(*, packages: bool) -> str | None:
    """What this machine lacks; None: nothing."""
    if shutil.which("node") is None:
        return "needs Node: apt-get install nodejs"
    if packages and not (NODE / "node_modules" / "@grpc" / "grpc-js").is_dir():
        return "needs grpc-js: cd clients/node; npm install"
    return None


def missing_for_go(*, packages: bool) -> str | None:
    """What this machine lacks; None: nothing."""
    if shutil.which("go") is None:
        return "needs Go: apt-get install golang-go"
    sources = ("google.golang.org/grpc", "google.golang.org/protobuf", "github.com/golang/protobuf/go.mod")
    there = all((GO_PACKAGES / "src" / source).exists() for source in sources) and shutil.which("protoc-gen-go-grpc")
    if packages and not there:
        return f"needs grpc-go: apt-get install {GO_DEBIAN}"
    return None


def go_command(program: str, workspace: Path, *, generate: bool) -> list[str]:
    """Build a program of the Go example in a workspace of its own, from Debian's packages; the path of the program."""
    folder = workspace / "src" / "ganvas" / "example"
    shutil.copytree(GO, folder, ignore=shutil.ignore_patterns("sampler"))
    if generate:
        run(["bash", "generate.sh"], folder, PROTO=str(ROOT / "proto"), PYTHON=sys.executable)
    target = workspace / program
    run(
        ["go", "build", "-o", str(target), f"./cmd/{program}"],
        folder,
        GO111MODULE="off",
        GOPATH=f"{workspace}:{GO_PACKAGES}",
        GOFLAGS="",
    )
    return [str(target)]


def run(command: Sequence[str], folder: Path, **variables: str) -> str:
    """What a command prints; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def vectors() -> Mapping[int, Mapping[int, str]]:
    """Seed to dimension to bit pattern, of the first table of docs/rng.md's vectors."""
    page = (ROOT / "docs" / "rng.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(0x\w{16})` \| (\d+) \| `0x\w{8}` \| `(0x\w{8})` \|", page, re.M)
    found: dict[int, dict[int, str]] = {}
    for seed, dimension, pattern in rows:
        found.setdefault(int(seed, 16), {})[int(dimension)] = pattern
    return found
