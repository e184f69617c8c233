"""The verb `keys`: API keys for a server that asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from ganvas_core.cli import OPTIONS, Cli, UsageError
from serving.keys.store import add_key, read_keys, revoke_key

__all__ = ["KeysOptions", "keys"]

Quota = Annotated[int | None, Field(ge=1, le=1_000_000), Cli(env="")]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class KeysOptions:
    """Options of `keys`."""

    action: Annotated[Literal["add", "list", "revoke"], Cli(positional=True)]
    """What to do."""
    name: Annotated[str | None, Cli(positional=True)] = None
    """Whose key: 1 to 63 of a-z, 0-9, '.', '_' and '-'."""
    keys_file: Path
    """The file that serve reads with the same option; add makes it."""
    rate: Quota = None
    """With add: requests a second; a stream is one request."""
    concurrency: Quota = None
    """With add: requests at the same time."""


def keys(options: KeysOptions) -> None:
    """Add, list or revoke API keys; a running serve follows within two seconds.

    Example: ./ganvas keys add studio --keys-file keys.json --rate 50 --concurrency 8
    """
    if options.action == "list" and options.name is not None:
        raise UsageError(f"keys list takes no NAME; got {options.name!r:.80}. Leave it out: every key is listed.")
    for option, value in (("--rate", options.rate), ("--concurrency", options.concurrency)):
        if options.action != "add" and value is not None:
            raise UsageError(f"keys {options.action} takes no {option}; got {value}. It is an option of keys add.")
    if options.action == "list":
        _list(options)
        return
    if options.name is None:
        raise UsageError(f"keys {options.action} needs a NAME. Example: ./ganvas keys {options.action} studio …")
    if options.action == "add":
        key = add_key(options.keys_file, options.name, rate=options.rate, concurrency=options.concurrency)
        print(key)
        Console(stderr=True).print("This is the only time that the key is shown.", highlight=False)
    else:
        revoke_key(options.keys_file, options.name)
        print(f"revoked {options.name}")


def _list(options: KeysOptions) -> None:
    table = Table("name", "id", "requests/s", "at once", "created")
    for key in read_keys(options.keys_file):
        table.add_row(key.name, key.id, str(key.rate or "no limit"), str(key.concurrency or "no limit"), key.created)
    Console().print(table)
