"""The verb `models`: what the model repository holds, and which of it is served by default."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from ganvas_core.cli import OPTIONS, Cli, UsageError, UserError
from ganvas_core.names import DEFAULT_REPOSITORY
from serving.repository.pins import not_kept, read_pins, write_pins
from serving.repository.publish import locked, publish
from serving.repository.reader import Repository, list_versions, read_repository

__all__ = ["ModelsOptions", "describe", "models", "table_console"]

COLUMNS = ("name", "version", "family", "image", "labels", "precision", "size", "digest", "created", "status")
WIDTH_WITHOUT_TERMINAL = 160


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class ModelsOptions:
    """Options of `models`."""

    action: Annotated[Literal["list", "publish", "rollback", "pin"], Cli(positional=True)] = "list"
    """list; publish NAME VERSION --source FOLDER; rollback NAME; pin NAME VERSION, or pin NAME to lift it."""
    name: Annotated[str | None, Cli(positional=True)] = None
    """A model."""
    version: Annotated[int | None, Field(ge=1), Cli(positional=True)] = None
    """One of its versions."""
    source: Annotated[Path | None, Cli(env="")] = None
    """With publish: the model repository to copy from."""
    repository: Path = DEFAULT_REPOSITORY
    """Model repository folder."""
    config_name: Annotated[str | None, Cli(shown_default="config.pbtxt")] = None
    """Configuration whose file and precision to show, as in serve."""
    as_json: Annotated[bool, Cli(flag="--json", env="")] = False
    """Print JSON."""


def models(options: ModelsOptions) -> None:
    """List the models of the repository, or change what a running serve makes of them; it follows within two seconds.

    publish copies a version from another repository, whole or not at all. pin says which version an empty version
    means, and rollback pins the one before. Requests that name a version get that one.

    Example: ./ganvas models rollback digits-gan
    """
    if options.action == "list":
        if options.name is not None:
            problem = f"models list takes no NAME; got {options.name!r:.80}. Leave it out: every model is listed."
            raise UsageError(problem)
        _list(options)
        return
    if options.name is None:
        raise UsageError(
            f"models {options.action} needs a NAME. Example: ./ganvas models {options.action} digits-gan …"
        )
    if options.action == "publish":
        _publish(options, options.name)
    else:
        _pin(options, options.name)


def _publish(options: ModelsOptions, name: str) -> None:
    if options.source is None:
        raise UsageError("models publish needs --source FOLDER, the model repository to copy from.")
    there_is = [version for model, version in list_versions(options.source) if model == name]
    if options.version is not None and there_is and options.version not in there_is:
        listed = ", ".join(map(str, there_is))
        raise UsageError(f"{options.source} has no {name} version {options.version}; there is: {listed}.")
    version = options.version or read_repository(options.source).find(name).version
    try:
        entry = publish(options.source, options.repository, name, version)
    except OSError as error:
        raise UserError(_not_written(error, options.repository)) from None
    print(f"published {name} version {version}, digest {entry.digest}")
    if (pin := read_pins(options.repository).get(name)) not in (None, version):
        print(f"An empty version still means {pin}. Change that: ./ganvas models pin {name}")


def _not_written(error: OSError, repository: Path) -> str:
    step = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "Mend that"
    where = f" at {error.filename}" if error.filename else ""
    return (
        f"cannot publish to --repository {repository}: {error.strerror or error}{where}. Nothing was published and "
        f"what was there before is intact. {step} and publish again."
    )


def _pin(options: ModelsOptions, name: str) -> None:
    """Pin a version, lift the pin, or pin the version before the current one."""
    repository = read_repository(options.repository, options.config_name)
    with locked(options.repository):
        pins = read_pins(options.repository)
        newest = repository.find(name).version
        wanted = options.version
        if options.action == "rollback":
            current = pins.get(name, newest)
            sound = [entry.version for entry in repository.versions if entry.name == name]
            wanted = max((version for version in sound if version < current), default=None)
            if wanted is None:
                raise UsageError(f"{name} has no version before {current}; there is: {', '.join(map(str, sound))}.")
        if wanted is None:
            pins.pop(name, None)
        else:
            pins[name] = repository.find(name, wanted).version
        write_pins(options.repository, pins)
    print(f"an empty version of {name} means {wanted or f'the newest, {newest}'}")


def _list(options: ModelsOptions) -> None:
    rows = describe(read_repository(options.repository, options.config_name))
    pins = read_pins(options.repository)
    there_is = {(row["name"], row["version"]) for row in rows}
    rows += [
        {"name": name, "version": version, "status": "missing", "reason": "it is not in the repository."}
        for name, version in pins.items()
        if (name, version) not in there_is
    ]
    rows.sort(key=lambda row: (row["name"], row["version"]))
    if options.as_json:
        print(json.dumps([row | {"pinned": pins.get(row["name"]) == row["version"]} for row in rows], indent=2))
        return
    console = table_console()
    table = Table(*COLUMNS)
    for row in rows:
        pinned = ", pinned" if pins.get(row["name"]) == row["version"] else ""
        if row["status"] != "ok":
            status = f"[red]{row['status']}[/]{pinned}"
            table.add_row(row["name"], str(row["version"]), *[""] * (len(COLUMNS) - 3), status)
            continue
        table.add_row(
            row["name"],
            str(row["version"]),
            row["family"],
            f"{row['height']}x{row['width']}x{row['channels']}",
            str(len(row["labels"])) if row["labels"] else "none",
            row["precision"],
            f"{row['num_bytes'] / 1e6:.2f} MB",
            row["digest"][:12],
            row["created"],
            f"[green]ok[/]{pinned}",
        )
    console.print(table)
    for row in rows:
        if row["status"] == "rejected":
            console.print(f"{row['name']} version {row['version']} is rejected: {row['reason']}", markup=False)
        if row["status"] != "ok" and pins.get(row["name"]) == row["version"]:
            console.print(not_kept(row["name"], row["version"], row["reason"]), markup=False)


def describe(repository: Repository) -> list[dict[str, Any]]:
    """One record a version, rejected ones with their reason, by name and version."""
    rows: list[dict[str, Any]] = [
        {
            "name": version.name,
            "version": version.version,
            "status": "ok",
            "family": version.certificate.family,
            "height": version.certificate.height,
            "width": version.certificate.width,
            "channels": version.certificate.channels,
            "latent_shape": list(version.certificate.latent_shape),
            "labels": list(version.certificate.labels),
            "precision": version.precision,
            "file": version.file_name,
            "num_bytes": version.served.num_bytes,
            "digest": version.digest,
            "created": version.certificate.created,
            "triton_models": [part.name for part in version.parts()],
        }
        for version in repository.versions
    ]
    rows += [
        {"name": entry.name, "version": entry.version, "status": "rejected", "reason": entry.reason}
        for entry in repository.rejected
    ]
    return sorted(rows, key=lambda row: (row["name"], row["version"]))


def table_console() -> Console:
    """As wide as the terminal, or 160 columns without one."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)
