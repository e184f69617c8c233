"""The verb `data`: get data sets, list them, and look at one before training on it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ganvas_core.cli import OPTIONS, Cli, UsageError
from ganvas_core.provenance import image_text, write_image
from training.data.contact_sheet import contact_sheet
from training.data.get import DEFAULT_COUNT, DEFAULT_SIZE, get_set, sources
from training.data.get.record import read_record, set_folder
from training.data.inspection import Inspection, inspect_collection
from training.data.opening import BUILT_IN, open_data

__all__ = ["DataVerbOptions", "data"]

WIDTH_WITHOUT_TERMINAL = 120
NUM_SHOWN = 5
"""Broken images and groups of duplicates that are named; --json names all."""


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
    sheet: Annotated[Path | None, Cli(env="", shown_default="out/inspect/NAME.png")] = None
    """With inspect: contact sheet to write."""
    as_json: Annotated[bool, Cli(flag="--json", env="")] = False
    """With inspect: print JSON, every name included."""


def data(options: DataVerbOptions) -> None:
    """List the data sets there are, get one, or look at one before training on it.

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
    else:
        _inspect(options, options.what)


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


def _inspect(options: DataVerbOptions, what: str) -> None:
    if what in BUILT_IN:
        raise UsageError(f"data inspect: {what} comes with Ganvas and is as it should be; inspect images of your own.")
    collection = open_data(what)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(collection.name, total=None)
        found = inspect_collection(collection, lambda done, whole: progress.update(task, completed=done, total=whole))
    sheet = options.sheet or Path("out") / "inspect" / f"{Path(collection.name.replace(':', '-')).name}.png"
    if found.looks:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        text = image_text(f"Images of the data set {found.name}.", {}, ai_generated=False)
        write_image(sheet, contact_sheet(collection, sorted(found.looks)), text)
    if options.as_json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        print("\n".join([*_report(found), *([f"contact sheet  {sheet}"] if found.looks else [])]))


def _as_json(found: Inspection) -> dict[str, object]:
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    del values["looks"]
    return values


def _report(found: Inspection) -> list[str]:
    """What a person should know, and what to do about it, in lines."""
    usable = found.num_images - len(found.broken)
    lines = [f"{found.name}: {found.num_images:,} images, {usable:,} usable"]
    if found.source or found.license:
        lines.append(f"source         {found.source}; licence {found.license or 'not known: --set data_license=…'}")
    lines.append(f"sizes          {_counted(found.sizes)}; sides {found.smallest_side} to {found.largest_side} pixels")
    lines.append(f"modes          {_counted(found.modes)}")
    if found.class_counts:
        lines.append(f"classes        {len(found.class_counts)}: {_counted(found.class_counts, most=20)}")
        fewest, most = min(found.class_counts.values()), max(found.class_counts.values())
        if fewest * 10 < most:
            lines.append(f"               uneven: {fewest:,} images of the rarest class, {most:,} of the most frequent")
    else:
        lines.append("classes        none: put the images of each class into a folder of its own, or train without")
    if found.num_held_out is None:
        lines.append("held out       no part of its own: a tenth of each class will be (--set held_out_share)")
    else:
        lines.append(f"held out       {found.num_held_out:,} images, as the set has them")
    if found.num_ignored:
        lines.append(f"ignored        {found.num_ignored:,} files that are not images")
    lines += [f"broken         {name}: {reason}" for name, reason in list(found.broken.items())[:NUM_SHOWN]]
    lines += _more(len(found.broken))
    for title, groups in (
        ("duplicates", found.duplicates),
        ("near", found.near_duplicates),
        ("two classes", found.contradictions),
        ("leaks", found.leaks),
    ):
        if groups:
            extra = sum(len(group) - 1 for group in groups)
            lines.append(f"{title:<14} {extra:,} images more than there are different ones")
            lines += [
                f"               {', '.join(group[:4])}{' …' if len(group) > 4 else ''}" for group in groups[:NUM_SHOWN]
            ]
            lines += _more(len(groups))
    return lines


def _more(count: int) -> list[str]:
    return [f"               and {count - NUM_SHOWN:,} more (--json names all)"] if count > NUM_SHOWN else []


def _counted(counts: Mapping[str, int], most: int = 6) -> str:
    """`RGB 290, L 10`."""
    shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:most])
    return f"{shown} and {len(counts) - most} more" if len(counts) > most else shown
