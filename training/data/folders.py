"""Where data sets and what is prepared from them are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["DATA_VARIABLE", "data_folder", "prepared_folder"]

DATA_VARIABLE = "GANVAS_DATA"


def data_folder() -> Path:
    """GANVAS_DATA, else `data` in the working directory, as model_repository and out are."""
    return Path(os.environ.get(DATA_VARIABLE) or "data")


def prepared_folder() -> Path:
    return data_folder() / "prepared"
