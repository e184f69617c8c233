"""The verb `sample`: the images of seeds from a running service, as one grid or as single files."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import track

from clients.cli.seeds import list_seeds, parse_seeds
from ganvas_client import (
    Format,
    GanvasError,
    Image,
    ImageInfo,
    InvalidArgumentError,
    ModelInfo,
    NotFoundError,
    Sampler,
)
from ganvas_core.cli import OPTIONS, Cli, UsageError, UserError
from ganvas_core.files import write_atomic
from ganvas_core.formats import SUFFIXES, FileFormat
from ganvas_core.grid import image_grid
from ganvas_core.names import DEFAULT_ADDRESS
from ganvas_core.provenance import image_text, write_image
from ganvas_core.tls_options import Address, CallerOptions

__all__ = ["SampleOptions", "sample"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class SampleOptions(CallerOptions):
    """Options of `sample`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    name: Annotated[str, Cli(positional=True)]
    """A model that the service has ready."""
    seeds: str = "0-63"
    """Seeds: numbers and ranges, as in 0-63 or 1,5,9-12."""
    out: Annotated[str | None, Cli(shown_default="out/NAME.png")] = None
    """File of the grid, or a folder for single images."""
    label: Annotated[str | None, Cli(shown_default="seed modulo number of labels")] = None
    """Label of every image, name or index."""
    truncation: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """Scales the latent: 1 leaves it as drawn, 0 gives the image of the zero latent."""
    version: Annotated[int | None, Cli(shown_default="newest")] = None
    """Model version."""
    format: Annotated[FileFormat | None, Cli(shown_default="by the name of --out, else png")] = None
    """Format of the files."""
    columns: Annotated[int | None, Field(ge=1), Cli(shown_default="near-square")] = None
    """Columns of the grid."""
    address: Annotated[Address, Cli(env="GANVAS_ADDRESS")] = DEFAULT_ADDRESS
    """HOST:PORT of the service."""
    timeout_s: Annotated[float, Field(ge=0.001, allow_inf_nan=False)] = 600.0
    """Seconds to wait for all images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A checked request: model, seeds and label."""

    options: SampleOptions
    model: ModelInfo
    seeds: Sequence[int]
    label: int | None


def sample(options: SampleOptions) -> None:
    """Request images from a running service and save them as a grid or, into a folder, one by one.

    A gateway's key is read from GANVAS_API_KEY.

    Example: ./ganvas sample digits-gan --seeds 0-63 --out grid.png
    """
    target = options.out or f"out/{options.name}.png"
    try:
        file_format = _file_format(target, options.format)
        ranges = parse_seeds(options.seeds)
        with Sampler(options.address, api_key=options.api_key, credentials=options.credentials()) as sampler:
            model = sampler.model(options.name, version=options.version, timeout_s=min(options.timeout_s, 60.0))
            job = Job(
                options=options,
                model=model,
                seeds=list_seeds(ranges, max_count=model.limits.max_stream_count),
                label=_label_index(options.label, model),
            )
            if _is_folder(target):
                info = _save_files(sampler, job, Path(target), file_format)
            else:
                info = _save_grid(sampler, job, Path(target), file_format)
    except (InvalidArgumentError, NotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}.") from None
    except GanvasError as error:
        raise UserError(str(error)) from None
    images = "1 image" if len(job.seeds) == 1 else f"{len(job.seeds)} images"
    print(f"{images} of {info.model} version {info.version} ({info.digest[:16]}…): {target}")


def _save_files(sampler: Sampler, job: Job, folder: Path, file_format: FileFormat) -> ImageInfo:
    """One file an image, named after model and seed, as the service made it."""
    suffix = next(suffix for suffix, name in SUFFIXES.items() if name == file_format)
    for image in _images(sampler, job, file_format):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{job.model.name}-{image.seed}{suffix}", image.bytes)
    return image.info


def _save_grid(sampler: Sampler, job: Job, path: Path, file_format: FileFormat) -> ImageInfo:
    """All images side by side, in the order of the seeds, as close to a square as their number allows."""
    count, model = len(job.seeds), job.model
    pixels = np.zeros((count, model.height, model.width, model.channels), np.uint8)
    for image in _images(sampler, job, "raw"):
        pixels[image.index] = image.array
    num_columns = job.options.columns or math.ceil(math.sqrt(count * model.height / model.width))
    sheet = image_grid(pixels, num_columns=min(num_columns, count))
    info = image.info
    fields = {
        "model": info.model,
        "version": info.version,
        "digest": info.digest,
        "seeds": job.options.seeds,
        "truncation": f"{info.truncation:.7g}",
        "label": job.label,
    }
    text = image_text("A grid of AI-generated images.", fields)
    write_image(path, sheet, text, file_format)
    return image.info


def _images(sampler: Sampler, job: Job, format: Format) -> Iterator[Image]:
    """Every image of the job, as they finish, with a progress bar on a terminal."""
    stream = sampler.sample_stream(
        job.model.name,
        job.seeds,
        labels=job.label,
        truncation=job.options.truncation,
        version=job.model.version,
        format=format,
        timeout_s=job.options.timeout_s,
    )
    yield from track(
        stream,
        total=len(job.seeds),
        description=job.model.name,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _is_folder(target: str) -> bool:
    return target.endswith("/") or Path(target).is_dir()


def _file_format(target: str, chosen: FileFormat | None) -> FileFormat:
    """The format to write, from --format and the name of --out, which must agree."""
    if _is_folder(target):
        return chosen or "png"
    suffix = Path(target).suffix
    by_name = SUFFIXES.get(suffix.lower())
    if chosen and by_name and chosen != by_name:
        raise ValueError(f"--out is a {by_name} file by its name, {target!r:.80}, but --format is {chosen}.")
    if not chosen and not by_name:
        raise ValueError(f"--out must end in {', '.join(SUFFIXES)} or in / for a folder; got {target!r:.80}.")
    return chosen or by_name or "png"


def _label_index(label: str | None, model: ModelInfo) -> int | None:
    """A name wins over an index."""
    if label is None or label in model.labels:
        return None if label is None else model.labels.index(label)
    if label.isdecimal() and int(label) < len(model.labels):
        return int(label)
    names = ", ".join(model.labels[:20]) or "none: the model is unconditional"
    raise ValueError(f"--label must be a label of {model.name} ({names}) or its index; got {label!r:.80}.")
