"""docs/oncall.md knows every event that the log of a server may have beyond a call's line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "oncall.md").read_text(encoding="utf-8")


def logged_events(source: str) -> set[str]:
    """The event of every logger.warning and logger.error."""
    found: set[str] = set()
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("logger.warning", "logger.error"):
            for node in ast.walk(call):
                if isinstance(node, ast.keyword) and node.arg == "event" and isinstance(node.value, ast.Constant):
                    found.add(str(node.value.value))
                elif isinstance(node, ast.Constant):
                    found |= set(re.findall(r"^event=([a-z-]+)", str(node.value)))
    return found


def test_every_warning_and_error_is_on_the_page() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (CHECKOUT / "serving").rglob("*.py")]
    logged = set().union(*map(logged_events, sources))
    assert len(logged) > 15
    assert logged - set(re.findall(r"`event=([a-z-]+)`", PAGE)) == set()


def test_the_page_names_no_event_and_no_metric_that_there_is_not() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "serving").rglob("*.py"))
    for event in re.findall(r"event=([a-z-]+)", PAGE):
        assert f'"{event}"' in source or f"event={event}" in source, event
    documented = "".join(
        (CHECKOUT / "docs" / name).read_text(encoding="utf-8") for name in ("metrics.md", "security.md")
    )
    for metric in re.findall(r"\b((?:ganvas|envoy)_[a-z_]+)\b", PAGE):
        assert metric in documented, metric
