from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from serving.triton import libpython
from serving.triton.errors import LibpythonNotFoundError
from serving.triton.libpython import find_libpython

NAME = f"libpython3.{sys.version_info.minor}.so.1.0"


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Python installed at tmp_path, without a shared library."""
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_config_var", {"LIBDIR": str(tmp_path / "lib64"), "MULTIARCH": "cpu-os"}.get)
    return tmp_path


@pytest.mark.parametrize("folder", ["lib", "lib64", "lib64/cpu-os"])
def test_libpython_is_found_where_a_python_keeps_it(prefix: Path, folder: str) -> None:
    (prefix / folder).mkdir(parents=True)
    (prefix / folder / NAME).touch()
    assert find_libpython() == prefix / folder / NAME


def test_libpython_of_another_version_does_not_count(prefix: Path) -> None:
    (prefix / "lib").mkdir()
    (prefix / "lib" / "libpython3.4.so.1.0").touch()
    with pytest.raises(LibpythonNotFoundError, match=NAME):
        find_libpython()


def test_libpython_remedy_is_pyenv_s_when_it_built_the_python(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(prefix.parent))
    with pytest.raises(LibpythonNotFoundError) as caught:
        find_libpython()
    assert str(caught.value.remedy).startswith("PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force 3.")


@pytest.mark.parametrize(
    ("marker", "remedy"),
    [
        ("/etc/debian_version", f"sudo apt-get install libpython3.{sys.version_info.minor}"),
        ("/etc/redhat-release", f"sudo dnf install python3.{sys.version_info.minor}-libs"),
    ],
)
def test_libpython_remedy_is_the_distribution_s_when_it_is_the_system_s(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, marker: str, remedy: str
) -> None:
    monkeypatch.setattr(libpython, "SYSTEM_PREFIXES", (str(prefix),))
    monkeypatch.setattr(libpython, "_folders", list)
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == marker)
    with pytest.raises(LibpythonNotFoundError) as caught:
        find_libpython()
    assert caught.value.remedy == remedy
    assert remedy in str(caught.value)
