"""The folder of a data set that was got, and the record of where it comes from that lies in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ganvas_core.cli import UsageError, describe_validation_error
from ganvas_core.files import write_synced
from training.data.folders import data_folder

__all__ = ["RECORD_NAME", "Record", "read_record", "set_folder", "verify", "write_set"]

RECORD_NAME = "ganvas-data.json"
LICENSE_NAME = "LICENSE.txt"


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid", "strict": True})
class Record:
    """ganvas-data.json."""

    format: int = 1
    name: str
    title: str
    """What is in it, for a person."""
    source: str
    license: str
    """Its short name; the text is in LICENSE.txt."""
    num_images: int
    size: int
    """Height and width of each, in pixels."""
    label_names: list[str]
    sha256: dict[str, str]
    """Of each file."""


def set_folder(name: str) -> Path:
    """Where a set of this name is, or would be. `name` is one of ours, never what a user typed."""
    return data_folder() / name


def read_record(folder: Path) -> Record | None:
    """The record in a folder; None where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    path = folder / RECORD_NAME
    try:
        return TypeAdapter(Record).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"--data: cannot read {path}: {error.strerror}.") from None
    except ValidationError as error:
        raise UsageError(f"--data: {path}: {describe_validation_error(error)} Get the data set again.") from None


def write_set(folder: Path, record: Record, files: Mapping[str, bytes], license_text: str) -> Record:
    """Write the files of a set, its licence and its record with their hashes into a folder that is being made."""
    contents = {**files, LICENSE_NAME: license_text.encode()}
    for name, data in contents.items():
        write_synced(folder / name, data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    whole = dataclasses.replace(record, sha256=hashes)
    write_synced(folder / RECORD_NAME, (json.dumps(dataclasses.asdict(whole), indent=2) + "\n").encode())
    return whole


def verify(folder: Path, record: Record) -> None:
    """
    Raises:
        UsageError: a file is not what the record says.
    """
    for name, expected in record.sha256.items():
        path = folder / Path(name).name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UsageError(f"--data: cannot read {path}: {error.strerror}. Get it again: {again(record)}") from None
        if found != expected:
            raise UsageError(
                f"--data: {path} has SHA-256 {found[:16]}…, not {expected[:16]}…: it was changed or damaged. "
                f"Get it again: {again(record)}"
            )


def again(record: Record) -> str:
    return f"./ganvas data get {record.name} --overwrite"
