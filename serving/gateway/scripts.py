"""The Lua texts that run inside Envoy: ours from lua/, headed by what depends on the options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from serving.gateway.clusters import key_cluster
from serving.keys.store import Key

__all__ = ["access_script", "direct_script", "json_script", "refusals_script"]

FOLDER = Path(__file__).parent / "lua"


def access_script(keys: Sequence[Key] | None, public: Iterable[str], defaults: Mapping[str, int] | None) -> str:
    """Who calls, and where the request goes.

    Args:
        keys: None asks nobody for a key.
        defaults: as GatewaySettings.default_versions.
    """
    table = "nil" if keys is None else "{\n" + "".join(map(_entry, keys)) + "}"
    paths = ", ".join(f'["{path}"] = true' for path in public)
    head = f"local keys = {table}\nlocal public = {{ {paths} }}\n{_versions(defaults)}"
    return _read("sha256") + head + _read("access")


def json_script(max_depth: int) -> str:
    """The bound of JSON's nesting."""
    return f"local max_depth = {max_depth}\n" + _read("json")


def direct_script(defaults: Mapping[str, int] | None) -> str:
    """The version that a direct gRPC call means when it names none."""
    return _versions(defaults) + _read("direct")


def refusals_script(*, named: bool, most: int) -> str:
    """What the service has just refused.

    Args:
        named: whether the access script says who calls.
        most: that are remembered; over it all are forgotten, and soon learnt again.
    """
    return f"local named = {str(named).lower()}\nlocal most = {most}\n" + _read("refusals")


def _entry(key: Key) -> str:
    """One line of the table. Names and digests hold no character that Lua could take for its own."""
    cluster = f'"{name}"' if (name := key_cluster(key)) else "nil"
    return f'  ["{key.id}"] = {{ name = "{key.name}", digest = "{key.sha256}", cluster = {cluster} }},\n'


def _versions(defaults: Mapping[str, int] | None) -> str:
    if defaults is None:
        return "local defaults = nil\n"
    entries = ", ".join(f'["{model}"] = "{version}"' for model, version in defaults.items())
    return f"local defaults = {{ {entries} }}\n"


def _read(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
