"""What a ready adapter gets from the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.adapters.weights import read_weights
from export.errors import InputError

__all__ = ["Request"]


@dataclass(frozen=True, kw_only=True)
class Request:
    weights: Path
    """A file of weights; for biggan and diffusers-vae the folder that holds it and config.json."""
    image_size: tuple[int, int] | None = None
    """Height and width, where the family leaves the choice."""
    trust_pickle: bool = False

    def read(self, path: Path | None = None) -> dict[str, Any]:
        """The state dict in `weights`, or in a file below it.

        Raises:
            InputError: it cannot be read.
        """
        return read_weights(path or self.weights, trust_pickle=self.trust_pickle)

    def read_config(self) -> dict[str, Any]:
        """config.json in the folder `weights`.

        Raises:
            InputError: there is none, or it is not JSON.
        """
        path = self.weights / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"--weights must be a folder with config.json and the weights for this adapter; {path}: {error}."
            ) from None
        if not isinstance(config, dict):
            raise InputError(f"{path} must hold an object; got {type(config).__name__}.")
        return config

    def only_file(self, *names: str) -> Path:
        """The first of `names` that the folder `weights` has.

        Raises:
            InputError: it has none.
        """
        for name in names:
            if (self.weights / name).is_file():
                return self.weights / name
        raise InputError(f"--weights {self.weights} has none of {', '.join(names)}. Give the folder that does.")
