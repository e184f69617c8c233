"""Class labels that a file beside the images gives: StyleGAN's dataset.json, or a CSV table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from ganvas_core.cli import UsageError
from training.data.collection import check_label_names

__all__ = ["LABEL_FILES", "Labels", "read_labels"]

LABEL_FILES = ("dataset.json", "labels.csv", "metadata.csv", "metadata.jsonl")
"""Looked for beside the images, in this order."""
FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_name", "path", "id")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")

Labels = tuple[list[int], tuple[str, ...]]
"""Class of each image, and the names of the classes."""


def read_labels(text: bytes, name: str, files: Sequence[str], where: str) -> Labels | None:
    """The labels of `files`, paths relative to the label file; None where it says that there are none.

    Args:
        text: the label file.  name: one of LABEL_FILES.  where: what messages begin with.
    Raises:
        UsageError: the file cannot be read, or an image has no label in it.
    """
    try:
        decoded = text.decode("utf-8-sig")
        table = _dataset_json(decoded) if name == "dataset.json" else _table(decoded, name)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error, RecursionError) as error:
        raise UsageError(f"{where} cannot be read as labels: {_reason(error)}.") from None
    if table is None:
        return None
    for file in table:
        path = PurePosixPath(file.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise UsageError(f"{where} names {file!r:.120}, which is not below its own folder. Use relative paths.")
    by_stem = {str(PurePosixPath(file).with_suffix("")): label for file, label in table.items()}
    found = [table.get(file, by_stem.get(str(PurePosixPath(file).with_suffix("")))) for file in files]
    missing = [file for file, label in zip(files, found, strict=True) if label is None]
    if missing:
        raise UsageError(
            f"{where} has no label for {missing[0]} ({len(missing)} of {len(files)} images). "
            "Add them, or remove the label file to train without classes."
        )
    return _numbered([label for label in found if label is not None], where)


def _dataset_json(text: str) -> dict[str, str] | None:
    """StyleGAN: {"labels": [["00000/img00000000.png", 6], …]}, or null where there are none."""
    labels = json.loads(text)["labels"]
    if labels is None:
        return None
    table = {}
    for file, label in labels:
        if isinstance(label, bool) or not isinstance(label, int | str):
            raise ValueError(f"the label of {file!r:.80} is {label!r:.40}, not a whole number")
        table[str(file)] = str(label)
    return table


def _table(text: str, name: str) -> dict[str, str] | None:
    """A row per image. The columns are named, or they are the file and the label."""
    if name.endswith(".jsonl"):
        rows = [{key: str(value) for key, value in json.loads(line).items()} for line in text.splitlines() if line]
        columns = list(rows[0]) if rows else []
    else:
        first = next(csv.reader(io.StringIO(text)), [])
        named = any(column.strip().lower() in (*FILE_COLUMNS, *LABEL_COLUMNS) for column in first)
        columns = [column.strip() for column in first] if named else ["file", "label"]
        reader = csv.DictReader(io.StringIO(text), fieldnames=columns)
        rows = [row for row in reader if any(row.values())][1 if named else 0 :]
    lower = {column.lower(): column for column in columns}
    file_column = next((lower[column] for column in FILE_COLUMNS if column in lower), None)
    label_column = next((lower[column] for column in LABEL_COLUMNS if column in lower), None)
    if file_column is None:
        raise ValueError(f"it has no column {' or '.join(FILE_COLUMNS[:3])}")
    if label_column is None:  # Hugging Face's metadata may hold captions alone
        return None
    for number, row in enumerate(rows, start=1):
        if not row.get(file_column) or row.get(label_column) in (None, ""):
            raise ValueError(f"row {number} lacks a file or a label")
    return {row[file_column]: row[label_column] for row in rows}


def _numbered(labels: list[str], where: str) -> Labels:
    """Names in the order of their numbers where all are numbers, else of the alphabet."""
    if all(label.isdecimal() for label in labels):
        if max(map(int, labels)) >= 100_000:
            raise UsageError(f"{where}: class {max(map(int, labels))} is too high; number the classes from 0.")
        names = tuple(str(i) for i in range(max(map(int, labels)) + 1))
        return [int(label) for label in labels], names
    names = check_label_names(sorted(set(labels)), where)
    index = {name: i for i, name in enumerate(names)}
    return [index[label] for label in labels], names


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error).rstrip(".") or "not valid"
