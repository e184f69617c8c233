"""The keys file: who may call, with which quotas. It holds a key's SHA-256, never the key."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ganvas_core.cli import UsageError, describe_validation_error
from ganvas_core.files import sync_folder

__all__ = ["Key", "KeysFileError", "add_key", "read_keys", "revoke_key"]

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)
MODE = 0o600
MAX_KEYS = 10_000
SECRET_BYTES = 24
"""192 random bits, so a plain SHA-256 cannot be searched; with the id a key is 48 characters."""


class KeysFileError(UsageError):
    """The keys file cannot be used as it is, or as asked."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Key:
    """One caller. Without a quota it is bound by the server's limits alone."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
    """Of the caller; the metrics and the service's log say it."""
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    """Part of the key, so that it is found without comparing it with every other."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the whole key."""
    created: str
    """When, in UTC."""
    rate: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Requests a second, and at once after a pause; a stream is one request."""
    concurrency: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Requests at the same time, over all paths."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KeysFile:
    """The whole file."""

    format: Literal[1] = 1
    """Of the file."""
    keys: tuple[Key, ...] = ()
    """One entry a key."""


def read_keys(path: Path) -> tuple[Key, ...]:
    """Every key of the file, by name.

    Raises:
        KeysFileError: it is missing, unreadable, damaged, or others may change it.
    """
    if path.exists() and not path.is_file():  # what is no file may never end
        raise KeysFileError(f"--keys-file {path} is no regular file. Give the path of a file; keys add makes it.")
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o022
            data = file.read()
    except FileNotFoundError:
        raise KeysFileError(f"--keys-file {path}: there is no such file. ./ganvas keys add NAME makes it.") from None
    except OSError as error:
        raise KeysFileError(f"--keys-file {path}: {error.strerror}.") from None
    if mode:
        raise KeysFileError(f"--keys-file {path}: others may write to it. Remedy: chmod 600 {path}")
    try:
        found = TypeAdapter(KeysFile).validate_python(json.loads(data), strict=False)
    except ValidationError as error:
        raise KeysFileError(f"--keys-file {path}: {describe_validation_error(error)}") from None
    except (ValueError, RecursionError) as error:  # a RecursionError: nested too deeply
        raise KeysFileError(f"--keys-file {path} is not JSON: {error}.") from None
    for field in ("name", "id"):
        values = [getattr(key, field) for key in found.keys]
        if len(set(values)) != len(values):
            raise KeysFileError(f"--keys-file {path}: two keys have the same {field}.")
    return tuple(sorted(found.keys, key=lambda key: key.name))


def add_key(path: Path, name: str, *, rate: int | None = None, concurrency: int | None = None) -> str:
    """Make a key and write its hash to the file, which is made if there is none.

    Returns:
        The key itself, which is kept nowhere.
    Raises:
        KeysFileError: the name is taken or cannot be one, or the file cannot be used.
    """
    with _locked(path):
        keys = read_keys(path) if path.exists() else ()
        if any(key.name == name for key in keys):
            raise KeysFileError(f"there is a key {name!r}. Revoke it first, or take another name.")
        if len(keys) >= MAX_KEYS:
            raise KeysFileError(f"--keys-file {path} has {MAX_KEYS} keys, which is the limit.")
        ids = {key.id for key in keys}
        while (new_id := secrets.token_hex(4)) in ids:
            pass
        secret = f"ganvas_{new_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        try:
            key = Key(
                name=name,
                id=new_id,
                sha256=hashlib.sha256(secret.encode()).hexdigest(),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                rate=rate,
                concurrency=concurrency,
            )
        except ValidationError as error:
            raise KeysFileError(_explain(error)) from None
        _write(path, [*keys, key])
    return secret


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of the file.

    Raises:
        KeysFileError: there is none of that name, or the file cannot be used.
    """
    with _locked(path):
        keys = read_keys(path)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            names = ", ".join(key.name for key in keys) or "none"
            raise KeysFileError(f"there is no key {name!r}; there is: {names}.")
        _write(path, left)


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["loc"] == ("name",):
        return f"NAME must be 1 to 63 of a-z, 0-9, '.', '_' and '-'; got {first['input']!r:.80}."
    return describe_validation_error(error)


def _write(path: Path, keys: Sequence[Key]) -> None:
    """Replace the file whole; at no moment may others read it."""
    stored = KeysFile(keys=tuple(sorted(keys, key=lambda key: key.name)))
    data = TypeAdapter(KeysFile).dump_json(stored, indent=2) + b"\n"
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise KeysFileError(f"--keys-file {path}: {error.strerror}.") from None
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time: the lock is on the folder, since the file itself is replaced."""
    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeysFileError(f"--keys-file {path}: {path.parent}: {error.strerror}.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
