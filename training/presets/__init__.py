"""What can be trained: each preset is a TOML file with a whole configuration, which the command line may vary."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ganvas_core.cli import UsageError, describe_validation_error, options_of
from training.config import TrainConfig
from training.families import FAMILIES

__all__ = ["PRESETS", "load_preset", "parse_config", "read_toml", "vary"]

PRESETS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}


def load_preset(preset: str) -> TrainConfig:
    """The configuration of a preset's name, or of a TOML file of your own.

    Raises:
        UsageError: there is no such preset or file, or a field of it is wrong.
    """
    if preset.endswith(".toml"):
        path = Path(preset)
    elif preset in PRESETS:
        path = PRESETS[preset]
    else:
        raise UsageError(
            f"PRESET: there is no preset {preset!r}. There are: {', '.join(PRESETS)}; or name a .toml file of your own."
        )
    try:
        values = read_toml(path)
    except UsageError as error:
        raise UsageError(f"PRESET: {error}") from None
    return parse_config({**values, "preset": path.stem}, where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """
    Raises:
        UsageError: the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}.") from None


def parse_config(record: Mapping[str, Any], *, where: str) -> TrainConfig:
    """A configuration from a preset, or from the config.json of a run.

    Raises:
        UsageError: the family is unknown or a field is wrong; begins with `where`.
    """
    family = record.get("family")
    if family not in FAMILIES:
        raise UsageError(f"{where}: family must be one of {', '.join(FAMILIES)}; got {family!r:.60}.")
    try:
        # As JSON, since in strict mode pydantic takes a list for a tuple only there.
        config = TypeAdapter(FAMILIES[family].config_type).validate_json(json.dumps(record, default=str))
    except ValidationError as error:
        raise UsageError(f"{where}: {describe_validation_error(error)}") from None
    return config


def vary(config: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """The configuration with some fields replaced.

    Raises:
        UsageError: a field that this family does not have, or a value out of its limits: named as it is typed.
    """
    known = {field.name for field in dataclasses.fields(config)}
    for field in given:
        if field not in known:
            typed = "--" + field.replace("_", "-")
            raise UsageError(f"{typed} does not apply to {config.preset}, which is a {config.family.upper()}.")
    try:
        return dataclasses.replace(config, **given)
    except ValidationError as error:
        raise UsageError(describe_validation_error(error, options_of(type(config)))) from None
