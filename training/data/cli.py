"""The verb `data`: get data sets, list them, and look at one before training on it."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ganvas_core.cli import OPTIONS, Cli, UsageError
from training.data.get import DEFAULT_COUNT, DEFAULT_SIZE, get_set, sources
from training.data.get.record import read_record, set_folder
from training.data.opening import BUILT_IN

__all__ = ["DataVerbOptions", "data"]

WIDTH_WITHOUT_TERMINAL = 120


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class DataVerbOptions:
    """Options of `data`."""

    action: Annotated[Literal["list", "get", "inspect"], Cli(positional=True)] = "list"
    """list; get NAME; inspect NAME or PATH."""
    what: Annotated[str | None, Cli(positional=True)] = None
    """A data set's name; with inspect also hf:NAME or a path, as train takes it."""
    count: Annotated[int, Field(ge=20, le=1_000_000), Cli(env="")] = DEFAULT_COUNT
    """With get: images of a set that is drawn."""
    size: Annotated[int, Field(ge=8, le=1024), Cli(env="")] = DEFAULT_SIZE
    """With get: their height and width in pixels."""
    overwrite: Annotated[bool, Cli(env="")] = False
    """With get: replace what is there."""


def data(options: DataVerbOptions) -> None:
    """List the data sets there are, get one, or inspect one.

    They are kept in the folder data, or in the folder that GANVAS_DATA names, with their licences.

    Example: ./ganvas data get critters
    """
    if options.action == "list":
        _list()
        return
    if options.what is None:
        example = "critters" if options.action == "get" else "path/to/images"
        raise UsageError(f"data {options.action}: WHAT is missing. Example: ./ganvas data {options.action} {example}")
    if options.action == "get":
        _get(options, options.what)


def _list() -> None:
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    table = Table("name", "what", "licence", "here", box=None, header_style="bold")
    table.add_row(BUILT_IN[0], "1,797 handwritten digits, 8x8, enlarged; ten classes", "CC-BY-4.0", "yes")
    table.add_row(BUILT_IN[1], "endless patches of two photographs, RGB; two classes", "CC-BY-2.0", "yes")
    known = sources()
    first = ("fashion", "critters", "emoji")
    for name in (*first, *sorted(set(known) - set(first))):
        record = read_record(set_folder(name))
        here = f"{record.num_images:,} images" if record else "no"
        table.add_row(name, known[name].what, known[name].license(), here)
    console.print(table)


def _get(options: DataVerbOptions, name: str) -> None:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)

        def show(done: int, whole: int) -> None:
            progress.update(task, completed=done, total=whole)

        record, folder, is_new = get_set(
            name, count=options.count, size=options.size, overwrite=options.overwrite, on_progress=show
        )
    lines = [
        f"{record.title}",
        f"  folder   {folder}{'' if is_new else ' (was here; its hashes match)'}",
        f"  source   {record.source}",
        f"  licence  {record.license}: {folder / 'LICENSE.txt'}",
        f"  train    ./ganvas train PRESET --data {name}",
    ]
    print("\n".join(lines), file=sys.stdout)
