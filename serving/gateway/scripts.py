"""The Lua texts that run inside Envoy: ours from lua/, headed by what depends on the options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from serving.gateway.clusters import key_cluster
from serving.keys.store import Key

__all__ = ["access_script", "frames_script", "json_script"]

FOLDER = Path(__file__).parent / "lua"


def access_script(keys: Sequence[Key] | None, public: Iterable[str]) -> str:
    """Who calls, and where the request goes.

    Args:
        keys: None asks nobody for a key.
    """
    table = "nil" if keys is None else "{\n" + "".join(map(_entry, keys)) + "}"
    paths = ", ".join(f'["{path}"] = true' for path in public)
    head = f"local keys = {table}\nlocal public = {{ {paths} }}\n"
    return _read("sha256") + head + _read("access")


def json_script(max_depth: int) -> str:
    """The bound of JSON's nesting."""
    return f"local max_depth = {max_depth}\n" + _read("json")


def frames_script(max_bytes: int) -> str:
    """The bound of each message in a stream."""
    return f"local max_bytes = {max_bytes}\n" + _read("frames")


def _entry(key: Key) -> str:
    """One line of the table. Names and digests hold no character that Lua could take for its own."""
    cluster = f'"{name}"' if (name := key_cluster(key)) else "nil"
    return f'  ["{key.id}"] = {{ name = "{key.name}", digest = "{key.sha256}", cluster = {cluster} }},\n'


def _read(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
