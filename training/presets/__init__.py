"""What can be trained: each preset is a TOML file with a whole configuration, which --set may vary."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ganvas_core.cli import UsageError, describe_validation_error
from training.config import TrainConfig
from training.families import FAMILIES
from training.presets.fill import fill_in

__all__ = ["PRESETS", "known_keys", "load_preset", "parse_config", "parse_settings", "read_preset", "read_toml"]

PRESETS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}

Record = dict[str, Any]
"""A configuration as TOML has it: values and tables by name."""


def load_preset(preset: str, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration of a preset's name, or of a TOML file of your own.

    Args:
        changes: values by dotted key, `network.base_channels`, that replace the preset's.
    Raises:
        UsageError: there is no such preset or file, or a field of it or a change is wrong.
    """
    record, where = read_preset(preset, changes)
    fill_in(record)
    return parse_config(record, where=f"{preset} with --set" if changes else where)


def read_preset(preset: str, changes: Mapping[str, Any] | None = None) -> tuple[Record, str]:
    """The preset's values with the changes, before they are checked against their limits; and the file's name.

    Raises:
        UsageError: there is no such preset or file, or a key of it or of a change is unknown.
    """
    if preset.endswith(".toml"):
        path = Path(preset)
    elif preset in PRESETS:
        path = PRESETS[preset]
    else:
        raise UsageError(
            f"PRESET: there is no preset {preset!r}{_near(preset, PRESETS)} There are: {', '.join(PRESETS)}; or name "
            "a .toml file of your own."
        )
    try:
        record = read_toml(path)
    except UsageError as error:
        raise UsageError(f"PRESET: {error}") from None
    record["preset"] = path.stem
    if record.get("family") not in FAMILIES:
        raise _unknown_family(record, str(path))

    for key, value in (changes or {}).items():
        known = known_keys(record["family"])
        if key not in known:
            raise UsageError(
                f"--set: {record['family']} has no key {key!r}{_near(key, known)} `./ganvas train --help` and "
                "docs/configuration.md list them."
            )
        *tables, name = key.split(".")
        table = record
        for step in tables:
            table = table.setdefault(step, {})
        table[name] = value
    return record, str(path)


def read_toml(path: Path) -> Record:
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


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`key=value` texts of --set as values by key: each is written as in TOML, and a bare word is text.

    Raises:
        UsageError: a text has no =.
    """
    values: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes key=value, such as network.base_channels=32; got {text!r:.80}.")
        try:
            values[key.strip()] = tomllib.loads(f"value = {value.strip()}")["value"]
        except ValueError:
            values[key.strip()] = value.strip()
    return values


def parse_config(record: Mapping[str, Any], *, where: str) -> TrainConfig:
    """A configuration from a preset, or from the config.json of a run.

    Raises:
        UsageError: the family is unknown or a field is wrong; begins with `where`.
    """
    family = record.get("family")
    if family not in FAMILIES:
        raise _unknown_family(record, where)
    known = known_keys(family)
    for key in _dotted(record):
        if key not in known:
            raise UsageError(f"{where}: {key} is unknown{_near(key, known)}")
    try:
        # As JSON, since in strict mode pydantic takes a list for a tuple only there.
        config = TypeAdapter(FAMILIES[family].config_type).validate_json(json.dumps(record, default=str))
    except ValidationError as error:
        raise UsageError(f"{where}: {describe_validation_error(error)}") from None
    return config


def known_keys(family: str) -> list[str]:
    """Every dotted key of a family's configuration, those of its network last."""
    options = [field.name for field in dataclasses.fields(FAMILIES[family].config_type) if field.name != "network"]
    return options + [f"network.{field.name}" for field in dataclasses.fields(FAMILIES[family].network_type)]


def _dotted(record: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _near(name: str, known: Iterable[str]) -> str:
    """`; did you mean network.base_channels?`, or a full stop: a key may also be near in its last part."""
    names = list(known)
    by_last = {one.rpartition(".")[2]: one for one in names}
    last = name.rpartition(".")[2]
    found = difflib.get_close_matches(name, names, n=1) or [
        by_last[one] for one in difflib.get_close_matches(last, by_last, n=1)
    ]
    return f"; did you mean {found[0]}?" if found else "."


def _unknown_family(record: Mapping[str, Any], where: str) -> UsageError:
    return UsageError(f"{where}: family must be one of {', '.join(FAMILIES)}; got {record.get('family')!r:.60}.")
