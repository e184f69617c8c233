"""From the options a person typed to the configuration of a run: over a preset, or over a run that goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.presets import PRESETS, GanConfig, VaeConfig
from training.run_folder import read_config

__all__ = ["OptionError", "new_config", "resume_config"]

OPTION_NAMES = {"preset": "PRESET", "total_kimg": "--kimg"}
"""What is typed for a field; the others are --the-field."""

LIMITS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
"""pydantic's names of limits, in words."""


class OptionError(Exception):
    """An option that cannot be: the message names it as typed, its value and its limit."""


def new_config(preset: str, given: dict[str, Any]) -> GanConfig | VaeConfig:
    """The preset, varied by the fields given.

    Raises:
        OptionError: unknown preset, a field of the other family, or a value out of its limits.
    """
    if preset not in PRESETS:
        raise OptionError(f"PRESET: there is no preset {preset!r}. There are: {', '.join(PRESETS)}.")
    config = PRESETS[preset]
    _check_family(config, given)
    try:
        return dataclasses.replace(config, **given)
    except ValidationError as error:
        raise OptionError(_explain(error)) from None


def resume_config(preset: str, folder: Path, given: dict[str, Any]) -> GanConfig | VaeConfig:
    """The configuration of the run in `folder`; a field that is given must be as it was.

    Raises:
        OptionError: a field is not what the run was started with.
        RunFolderError: there is no run that can be read.
    """
    config = read_config(folder)
    given = {"preset": preset, **given}
    _check_family(config, given)
    for field, value in given.items():
        if value != (saved := getattr(config, field)):
            raise OptionError(
                f"{_typed(field)} is {value} here, but the run in {folder} was started with {saved}. "
                "Leave it as it was to go on with that run, or start another in another --out."
            )
    return config


def _check_family(config: GanConfig | VaeConfig, given: dict[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(config)}
    for field in given:
        if field not in known:
            raise OptionError(f"{_typed(field)} does not apply to {config.preset}, which is a {config.family.upper()}.")


def _explain(error: ValidationError) -> str:
    """`--batch-size must be at least 2; got 1.`"""
    first = error.errors(include_url=False)[0]
    limits = [words.format(first["ctx"][key]) for key, words in LIMITS.items() if key in first.get("ctx", {})]
    expected = first.get("ctx", {}).get("expected")
    must = limits[0] if limits else expected or "a finite number"
    return f"{_typed(str(first['loc'][0]))} must be {must}; got {first['input']}."


def _typed(field: str) -> str:
    return OPTION_NAMES.get(field, "--" + field.replace("_", "-"))
