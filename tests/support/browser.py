"""Debian's Chromium, driven by Playwright, which fails a test for any error that a page reports."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

SIZES = {"phone": (390, 844), "laptop": (1366, 768), "wide": (2200, 1200)}
PATIENCE_MS = 60_000
"""A loaded machine is no broken page."""


@contextmanager
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@contextmanager
def opened(
    running: Browser, url: str, *, size: str = "laptop", expected: tuple[str, ...] = (), **context: Any
) -> Iterator[Page]:
    """A page in a profile of its own; afterwards its console must hold no error but what is `expected` in its text."""
    width, height = SIZES[size]
    profile = running.new_context(
        viewport={"width": width, "height": height},
        has_touch=size == "phone",
        accept_downloads=True,
        reduced_motion="reduce",
        **context,
    )
    profile.set_default_timeout(PATIENCE_MS)
    page = profile.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    yield page
    profile.close()
    assert [error for error in errors if not any(part in error for part in expected)] == []


def violations(page: Page) -> list[str]:
    """What axe finds wrong: rule, and the first element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{entry['id']}: {entry['nodes'][0]['html'][:200]} {entry['nodes'][0]['failureSummary']}" for entry in found
    ]


def downloaded(page: Page, button: str, folder: Path) -> Path:
    """What a click on a button saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path
