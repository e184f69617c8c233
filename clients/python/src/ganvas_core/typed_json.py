"""JSON read strictly into frozen dataclasses: unknown or missing keys and wrong types are errors."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal, TypeVar

__all__ = ["TypedJsonError", "read_typed"]

T = TypeVar("T")


class TypedJsonError(Exception):
    """A value of another type than the field that it is for."""


def read_typed(kind: type[T], value: Any, where: str) -> T:
    """A value of JSON as a dataclass.

    Args:
        kind: built of dataclasses, dict, tuple, Literal, unions with None and scalars.
        where: what the value is called in an error.
    Raises:
        TypedJsonError: names the field.
    """
    read: T = _read(kind, value, where)
    return read


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin is dict and isinstance(value, dict):
        return {key: _read(arguments[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (typing.Union, types.UnionType):
        inner = next(item for item in arguments if item is not type(None))
        return None if value is None else _read(inner, value, where)
    if (origin is Literal and value in arguments) or kind is Any:
        return value
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise TypedJsonError(f"{where} must be {kind}; got {value!r:.80}.")


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise TypedJsonError(f"{where} must be an object; got {value!r:.80}.")
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(value) - set(hints)):
        raise TypedJsonError(f"{where} has unknown fields: {', '.join(unknown)}.")
    arguments = {name: _read(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise TypedJsonError(f"{where}: {str(error).rstrip('.')}.") from None
