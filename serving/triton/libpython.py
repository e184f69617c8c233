"""libpython of the running Python: the stub process of Triton's Python backend is linked to it."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from pathlib import Path

from serving.triton.errors import LibpythonNotFoundError

__all__ = ["find_libpython"]

SYSTEM_PREFIXES = ("/usr", "/usr/local")


def find_libpython() -> Path:
    """The file libpython3.X.so.1.0 that belongs to this interpreter.

    Only its own will do: another build of the same version finds its modules elsewhere.

    Raises:
        LibpythonNotFoundError: there is none; carries the remedy for the way this Python was installed.
    """
    name = f"libpython3.{sys.version_info.minor}.so.1.0"
    for folder in _folders():
        if (folder / name).is_file():
            return folder / name
    raise LibpythonNotFoundError(
        f"Python {platform.python_version()} at {sys.base_prefix} has no {name}, which Triton's Python backend needs.",
        remedy=_remedy(),
    )


def _folders() -> list[Path]:
    """Where this interpreter's library can be, the likeliest first."""
    folders = [Path(sys.base_prefix) / "lib"]
    libdir, multiarch = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("MULTIARCH")
    if libdir:
        folders.append(Path(libdir))
        if multiarch:
            folders.append(Path(libdir) / multiarch)
    if sys.base_prefix in SYSTEM_PREFIXES:
        folders += [Path(root) / (multiarch or "") for root in ("/usr/lib", "/lib")] + [Path("/usr/lib64")]
    return folders


def _remedy() -> str:
    minor = f"3.{sys.version_info.minor}"
    if sys.base_prefix in SYSTEM_PREFIXES and Path("/etc/debian_version").exists():
        return f"sudo apt-get install libpython{minor}"
    if sys.base_prefix in SYSTEM_PREFIXES and Path("/etc/redhat-release").exists():
        return f"sudo dnf install python{minor}-libs"
    pyenv = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    if sys.base_prefix.startswith(pyenv + os.sep):
        return (
            f"PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {platform.python_version()}, "
            "then remove .venv and start again"
        )
    return (
        f"make the virtual environment with a Python that was built with --enable-shared: Debian's python{minor} with "
        f"its package libpython{minor}, or the one of uv or conda"
    )
