"""What the supervisor wants served: which versions, which of them by default, and which are out for the moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["VersionId", "Wanted"]

VersionId = tuple[str, int]
"""Model name and version."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One state; the next one replaces it."""

    versions: Mapping[VersionId, int] = field(default_factory=dict)
    """To how often Triton has loaded it: a version that was loaded anew is proven anew."""
    defaults: Mapping[str, int] = field(default_factory=dict)
    """The version that an empty version means. A model that is not here: its newest."""
    out: Mapping[VersionId, str] = field(default_factory=dict)
    """Versions that will be back, and what their callers are told meanwhile."""

    @classmethod
    def from_command(cls, command: Mapping[str, Any]) -> Wanted:
        """The command `serve` of the supervisor."""
        return cls(
            versions={(name, version): loads for name, version, loads in command["versions"]},
            defaults=command["defaults"],
            out={(name, version): reason for name, version, reason in command["out"]},
        )

    def to_command(self) -> dict[str, Any]:
        """The fields of the command `serve`."""
        return {
            "versions": [[name, version, loads] for (name, version), loads in self.versions.items()],
            "defaults": dict(self.defaults),
            "out": [[name, version, reason] for (name, version), reason in self.out.items()],
        }
