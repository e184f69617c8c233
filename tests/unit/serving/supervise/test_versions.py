"""A pin whose version cannot be served: the model has no default, and this is said; nothing newer takes its place."""

from __future__ import annotations

import asyncio
import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from serving.options import ServeOptions
from serving.repository.pins import PINS_FILE, not_kept, write_pins
from serving.repository.reader import read_repository
from serving.service.errors import UnavailableError
from serving.service.inference.catalog import Catalog, ServedModel
from serving.service.inference.wanted import Wanted
from serving.supervise.medic import Medic
from serving.supervise.ready import Ready, print_ready
from serving.supervise.versions import Versions

MODEL = "plain-gan"


class FakeService:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def command(self, name: str, **fields: Any) -> None:
        self.told.append(fields)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def start(repository: Path, add_version: Callable[[str, int], None], service: FakeService) -> Callable[[], Versions]:
    """Version 2 is the newest and 1 is pinned; call it to start with what is then in the repository."""
    add_version(MODEL, 2)
    write_pins(repository, {MODEL: 1})

    def versions() -> Versions:
        found = read_repository(repository)
        none: Any = None
        made = Versions(repository, none, found, none, cast(Any, service), load_s=1, retire_s=0)
        made.on_serving([{"name": entry.name, "version": entry.version} for entry in found.versions])
        return made

    return versions


def damage(repository: Path) -> None:
    path = repository / MODEL / "1" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")


def delete(repository: Path) -> None:
    for name in (MODEL, f"{MODEL}-decode"):
        shutil.rmtree(repository / name / "1")


def catalog(versions: Versions, wanted: Wanted) -> Catalog:
    """What the service makes of it."""
    models = [
        ServedModel(entry=entry, golden="exact", options=ServeOptions())
        for key, entry in versions.entries.items()
        if key in wanted.versions and key not in wanted.out
    ]
    return Catalog(models, defaults=wanted.defaults, out=wanted.out)


@pytest.mark.parametrize(("harm", "reason"), [(damage, "has SHA-256"), (delete, "it is not in the repository.")])
def test_pinned_version_that_cannot_be_served_gives_way_to_no_newer_one(
    start: Callable[[], Versions],
    repository: Path,
    service: FakeService,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
    reason: str,
) -> None:
    harm(repository)
    with caplog.at_level(logging.ERROR, "ganvas.supervisor"):
        versions = start()
        versions.on_serving(
            [{"name": name, "version": version} for name, version in versions.entries]
        )  # a service that came back
    lines = [text for text in caplog.messages if text.startswith("event=pin-not-kept")]
    assert len(lines) == 1
    assert f"model={MODEL} version=1" in lines[0]
    assert reason in lines[0]
    assert f"./ganvas models rollback {MODEL}" in lines[0]

    served = catalog(versions, Wanted.from_command(service.told[-1]))
    with pytest.raises(UnavailableError, match="version 1 is pinned and cannot be served"):
        served.find(MODEL, "")
    assert served.find(MODEL, "2").version == 2
    assert served.find("tiny-gan", "").version == 1

    keeper: Any = SimpleNamespace()
    medic = Medic(versions, keeper, keeper, repository, parts=[], canary_s=0, canary_timeout_s=1)
    assert medic.states()[MODEL, 1] == "pin not kept"
    assert medic.states()[MODEL, 2] is None


def test_pin_that_is_kept_says_nothing(
    start: Callable[[], Versions], service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    versions = start()
    assert versions.pins_not_kept() == {}
    assert catalog(versions, Wanted.from_command(service.told[-1])).find(MODEL, "").version == 1
    assert not caplog.messages


def test_lifted_pin_gives_the_newest(start: Callable[[], Versions], repository: Path) -> None:
    delete(repository)
    write_pins(repository, {})
    versions = start()
    assert versions.default(MODEL) == 2
    assert versions.wanted().out == {}


def test_ready_box_lists_what_is_out() -> None:
    console = Console(file=io.StringIO(), width=400)
    ready = Ready(
        service="a:1",
        triton_grpc="a:2",
        triton_http="a:3",
        metrics="a:4",
        pid=1,
        service_pid=2,
        triton_pid=3,
        gateway_pid=None,
        models=[],
        rejected=[],
        out=[{"name": MODEL, "version": 1, "reason": not_kept(MODEL, 1, "its file is damaged.")}],
    )
    print_ready(console, ready)
    output = cast(io.StringIO, console.file).getvalue()
    assert "out" in output
    assert f"{MODEL} is pinned to version 1, which cannot be served: its file is damaged." in output


def test_pins_that_cannot_be_read_are_logged_once_a_change(
    start: Callable[[], Versions], repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    versions = start()
    path = repository / PINS_FILE
    for text in ("{", "[1, 2]", "[" * 100_000):
        path.write_text(text)
        for _ in range(3):
            asyncio.run(versions._follow_once())
        assert not versions.pins_ok
        assert versions.default(MODEL) == 1
    assert sum("event=pins-unreadable" in line for line in caplog.messages) == 3
    write_pins(repository, {MODEL: 2})
    asyncio.run(versions._follow_once())
    assert versions.pins_ok
    assert versions.default(MODEL) == 2
