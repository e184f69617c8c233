"""`ganvas sample`: the images of seeds from a running service, as one grid or as single files."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from clients.cli.seeds import parse_seeds
from ganvas_client import (
    DEFAULT_ADDRESS,
    Format,
    GanvasError,
    Image,
    ImageInfo,
    InvalidArgumentError,
    ModelInfo,
    NotFoundError,
    Sampler,
)
from ganvas_core.files import write_atomic
from ganvas_core.grid import image_grid
from ganvas_core.provenance import FileFormat, image_text, write_image

__all__ = ["sample"]

_SUFFIXES: dict[str, FileFormat] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was asked for, checked."""

    model: ModelInfo
    seeds: Sequence[int]
    seeds_text: str
    label: int | None
    truncation: float
    timeout_s: float


def sample(
    name: Annotated[str, typer.Argument(help="A model that the service has ready.")],
    seeds: Annotated[str, typer.Option(help="Seeds: numbers and ranges, as in 0-63 or 1,5,9-12.")] = "0-63",
    out: Annotated[
        str | None,
        typer.Option(help="File of the grid, or a folder for single images.", show_default="out/NAME.png"),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Label of every image, name or index.", show_default="seed modulo number of labels"),
    ] = None,
    truncation: Annotated[float, typer.Option(help="1 is the model as trained, 0 its mean image.")] = 1.0,
    version: Annotated[int | None, typer.Option(help="Model version.", show_default="newest")] = None,
    format: Annotated[
        FileFormat | None, typer.Option(help="Format of the files.", show_default="by the name of --out, else png")
    ] = None,
    columns: Annotated[int | None, typer.Option(min=1, help="Columns of the grid.", show_default="near-square")] = None,
    address: Annotated[str, typer.Option(help="HOST:PORT of the service.", envvar="GANVAS_ADDRESS")] = DEFAULT_ADDRESS,
    timeout_s: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for all images.")] = 600.0,
) -> None:
    """Ask a running service for images and save them as a grid or, into a folder, one by one.

    Example: ganvas sample digits-gan --seeds 0-63 --out grid.png
    """
    target = out or f"out/{name}.png"
    try:
        file_format = _file_format(target, format)
        with Sampler(address) as sampler:
            model = sampler.model(name, version=version, timeout_s=min(timeout_s, 60.0))
            order = Order(
                model=model,
                seeds=parse_seeds(seeds, max_count=model.limits.max_stream_count),
                seeds_text=seeds,
                label=_label_index(label, model),
                truncation=truncation,
                timeout_s=timeout_s,
            )
            _save(sampler, order, target, file_format, columns)
    except (InvalidArgumentError, NotFoundError, ValueError) as error:
        raise _failed(error, 2) from None
    except OSError as error:
        raise _failed(f"cannot write {target}: {error.strerror or error}.", 1) from None
    except GanvasError as error:
        raise _failed(error, 1) from None


def _save(sampler: Sampler, order: Order, target: str, file_format: FileFormat, columns: int | None) -> None:
    if _is_folder(target):
        info = _save_files(sampler, order, Path(target), file_format)
    else:
        info = _save_grid(sampler, order, Path(target), file_format, columns)
    count = len(order.seeds)
    images = "1 image" if count == 1 else f"{count} images"
    typer.echo(f"{images} of {info.model} version {info.version} ({info.digest[:16]}…): {target}")


def _save_files(sampler: Sampler, order: Order, folder: Path, file_format: FileFormat) -> ImageInfo:
    """One file an image, named after model and seed, as the service made it."""
    suffix = next(suffix for suffix, name in _SUFFIXES.items() if name == file_format)
    for image in _images(sampler, order, file_format):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{order.model.name}-{image.seed}{suffix}", image.bytes)
    return image.info


def _save_grid(sampler: Sampler, order: Order, path: Path, file_format: FileFormat, columns: int | None) -> ImageInfo:
    """All images side by side, in the order of the seeds, as close to a square as their number allows."""
    count, model = len(order.seeds), order.model
    pixels = np.zeros((count, model.height, model.width, model.channels), np.uint8)
    for image in _images(sampler, order, "raw"):
        pixels[image.index] = image.array
    num_columns = columns or math.ceil(math.sqrt(count * model.height / model.width))
    sheet = image_grid(pixels, num_columns=min(num_columns, count))
    info = image.info
    fields = {
        "model": info.model,
        "version": info.version,
        "digest": info.digest,
        "seeds": order.seeds_text,
        "truncation": f"{info.truncation:.7g}",
        "label": order.label,
    }
    text = image_text("A grid of AI-generated images.", fields)
    write_image(path, sheet, text, file_format)
    return image.info


def _images(sampler: Sampler, order: Order, format: Format) -> Iterator[Image]:
    """Every image of the order, as they finish, with a progress bar when a person watches."""
    stream = sampler.sample_stream(
        order.model.name,
        order.seeds,
        labels=order.label,
        truncation=order.truncation,
        version=order.model.version,
        format=format,
        timeout_s=order.timeout_s,
    )
    yield from track(
        stream,
        total=len(order.seeds),
        description=order.model.name,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _is_folder(target: str) -> bool:
    return target.endswith("/") or Path(target).is_dir()


def _file_format(target: str, chosen: FileFormat | None) -> FileFormat:
    """The format to write, from --format and the name of --out, which must not contradict each other."""
    if _is_folder(target):
        return chosen or "png"
    suffix = Path(target).suffix
    by_name = _SUFFIXES.get(suffix.lower())
    if chosen and by_name and chosen != by_name:
        raise ValueError(f"--out is a {by_name} file by its name, {target!r:.80}, but --format is {chosen}.")
    if not chosen and not by_name:
        raise ValueError(f"--out must end in {', '.join(_SUFFIXES)} or in / for a folder; got {target!r:.80}.")
    return chosen or by_name or "png"


def _label_index(label: str | None, model: ModelInfo) -> int | None:
    """A name wins over an index, since it is what a person sees."""
    if label is None or label in model.labels:
        return None if label is None else model.labels.index(label)
    if label.isdecimal() and int(label) < len(model.labels):
        return int(label)
    names = ", ".join(model.labels[:20]) or "none: the model is unconditional"
    raise ValueError(f"--label must be a label of {model.name} ({names}) or its index; got {label!r:.80}.")


def _failed(message: object, code: int) -> typer.Exit:
    typer.echo(f"sample: {message}", err=True)
    return typer.Exit(code)
