"""The studio as a person uses it: Chromium over `./ganvas serve --http`, each action clicked and its effect checked."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from export.directions import DirectionsOptions, directions
from ganvas_client import Sampler
from tests.support.browser import browser, downloaded, needs_chromium, opened, violations
from tests.support.extent import ALL
from tests.support.ports import free_port
from tests.support.serve import BACK_S, CHECKOUT, Serve, running_serve

pytestmark = [pytest.mark.triton, needs_chromium]

ROOMS = ("look", "vary", "blend", "walk", "sliders")


@pytest.fixture(scope="module")
def repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With directions of the VAE."""
    copy = tmp_path_factory.mktemp("studio") / "models"
    shutil.copytree(model_repository, copy)
    directions(DirectionsOptions(name="tiny-vae", repository=copy, num_seeds=256, components=3))
    return copy


@pytest.fixture(scope="module")
def serve(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with running_serve(repository, tmp_path_factory.mktemp("serve"), "--http=0") as serve:
        yield serve
        serve.process.send_signal(signal.SIGTERM)
        code, _, errors = serve.end()
        assert code == 0, errors


@pytest.fixture(scope="module")
def url(serve: Serve) -> str:
    return str(serve.ready["studio"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


def fetch(url: str, path: str) -> bytes:
    with urllib.request.urlopen(url.rstrip("/") + path, timeout=60) as response:
        data: bytes = response.read()
    return data


def tiles(page: Page) -> Any:
    return page.locator("#room .tile")


def drawn(page: Page) -> None:
    """Wait until every image in view has come."""
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('#room img[data-address]')];"
        " return all.length && all.slice(0, 12).every((img) => img.complete && img.naturalWidth) }"
    )


def settled(page: Page) -> None:
    """Wait until the page has drawn what came of the last action, and what it does a moment later."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 200))))"
    )


def go(page: Page, room: str) -> None:
    page.locator(f"nav a[href='#{room}']").click()


def choose(page: Page, *places: int) -> None:
    for place in places:
        tiles(page).nth(place).hover()
        tiles(page).nth(place).locator(".heart").click()


def chosen(page: Page) -> list[str]:
    return [str(value) for value in page.locator("#tray li img").evaluate_all("all => all.map(i => i.dataset.address)")]


@pytest.mark.parametrize("size", ["laptop", "phone", "wide"] if ALL else ["laptop"])
def test_three_are_chosen_a_fourth_is_bred_and_all_come_out_the_same_elsewhere(
    chromium: Browser, url: str, serve: Serve, tmp_path: Path, size: str
) -> None:
    with opened(chromium, f"{url}?model=tiny-gan", size=size) as page:
        # Look: labels, truncation, another seed, further down, the keyboard.
        drawn(page)
        page.get_by_label("Label", exact=True).select_option("3")
        page.get_by_label("Truncation").fill("0.7")
        page.get_by_label("From seed").fill("18446744073709551500")
        page.get_by_label("From seed").press("Enter")
        last = page.locator("img[alt='seed 18446744073709551615, label 3']")
        page.locator("#room .scroll").evaluate("box => box.scrollTo(0, 1e6)")
        expect(last).to_be_visible()
        page.get_by_label("From seed").fill("1000")
        page.get_by_label("From seed").press("Enter")
        drawn(page)
        address = tiles(page).first.locator("img").get_attribute("data-address")
        assert "/images/1000.png?label=3&truncation=0.7" in str(address)
        with Sampler(serve.ready["service"]) as sampler:
            (expected,) = sampler.sample("tiny-gan", [1000], labels=3, truncation=0.7, format="png").bytes
        assert fetch(url, str(address)) == expected
        tiles(page).first.locator(".open").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("f")
        settled(page)  # the tray has come, and the wall has fitted itself beside it
        page.keyboard.press("ArrowDown")
        page.keyboard.press("f")
        choose(page, 5)
        assert len(chosen(page)) == 3
        assert "/images/1001.png" in chosen(page)[0]

        # Blend the three, by pointer: in the middle each has its third.
        go(page, "blend")
        drawn(page)
        weights = page.get_by_label("Blend", exact=True).get_by_role("status")
        expect(weights).to_have_text("33 % · 33 % · 33 %")
        box = page.locator(".pad").bounding_box()
        assert box is not None
        page.locator(".pad").click(position={"x": box["width"] / 2, "y": box["height"] / 14})
        expect(weights).to_have_text("100 % · 0 % · 0 %")
        go(page, "look")
        drawn(page)

        # Proof: its address, and the bytes made again.
        tiles(page).nth(5).locator(".open").click()
        dialog = page.locator("#inspector")
        assert "/images/1005.png?label=3" in dialog.get_by_label("Address of this image").input_value()
        dialog.get_by_role("button", name="Make it again and compare").click()
        expect(dialog.locator(".proof.same")).to_contain_text("bytes are the same")
        page.keyboard.press("ArrowRight")
        expect(dialog.get_by_role("heading")).to_have_text("seed 1006")
        own = downloaded(page, "Download", tmp_path)
        dialog.get_by_role("button", name="Close").click()

        # Two side by side.
        page.get_by_role("button", name="Compare").click()
        expect(page.locator("#compare").get_by_role("status")).to_contain_text("% of the pixels differ")
        page.locator("#compare").get_by_role("button", name="Close").click()

        # Breed all three; go on with a child; back along the tree.
        page.get_by_role("button", name="Breed", exact=True).click()
        expect(page.get_by_role("heading", name="Breed")).to_be_visible()
        expect(page.get_by_label("Next generation").locator(".tile")).to_have_count(24)
        drawn(page)
        page.get_by_label("Next generation").locator(".open").nth(3).click()
        expect(page.get_by_role("heading", name="Vary")).to_be_visible()
        expect(page.get_by_label("Generation 1").locator(".tile")).to_have_count(1)
        expect(page.get_by_label("Generation 0").locator(".tile")).to_have_count(3)
        far = page.get_by_label("How far")
        before = page.get_by_label("Next generation").locator("img").first.get_attribute("data-address")
        far.fill("0.1")
        page.wait_for_function(
            "(before) => document.querySelector('#room .grid img').dataset.address !== before", arg=before
        )
        page.get_by_label("Parents").locator(".heart").click()
        page.get_by_label("Generation 0").locator(".open").first.click()
        expect(page.locator(".tree")).to_have_count(0)
        assert len(chosen(page)) == 4
        assert "/decode/" in chosen(page)[3]

        # Blend four, by keyboard; at a corner it is the chosen image itself.
        go(page, "blend")
        drawn(page)
        page.get_by_label("Blend: move").focus()
        for _ in range(12):
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("ArrowUp")
        expect(page.get_by_label("Blend", exact=True).get_by_role("status")).to_have_text("100 % · 0 % · 0 % · 0 %")
        for _ in range(6):
            page.keyboard.press("ArrowRight")
        expect(page.get_by_label("Blend", exact=True).get_by_role("status")).to_have_text("75 % · 25 % · 0 % · 0 %")
        page.get_by_role("button", name="Choose this blend").click()
        assert len(chosen(page)) == 5

        # Walk through them, and save it.
        go(page, "walk")
        page.get_by_label("Frames between two").fill("4")
        page.get_by_label("Each pixel as").fill("2")
        expect(page.locator(".timeline output")).to_have_text("1 / 20")
        with Image.open(downloaded(page, "GIF", tmp_path)) as gif:
            assert (gif.n_frames, gif.size) == (20, (64, 64))  # type: ignore[attr-defined]
            first = np.asarray(gif.convert("L"))[::2, ::2]
        with Image.open(io.BytesIO(fetch(url, chosen(page)[0]))) as image:
            assert (first == np.asarray(image)).all()
        with Image.open(downloaded(page, "WebP", tmp_path)) as webp:
            assert webp.n_frames == 20  # type: ignore[attr-defined]
        with Image.open(downloaded(page, "Sheet", tmp_path)) as sheet:
            assert sheet.width > 4 * 32
        if shutil.which("ffmpeg"):
            assert downloaded(page, "MP4", tmp_path).read_bytes()[4:8] == b"ftyp"
        recipe = downloaded(page, "Save recipe", tmp_path)
        kept = chosen(page)

        # What was chosen is here again after a reload.
        page.reload()
        expect(page.locator("#tray li")).to_have_count(5)

    entries = json.loads(recipe.read_text())["images"]
    assert sorted(entry["address"] for entry in entries if entry["chosen"]) == sorted(kept)
    assert any(len(entry["parents"]) == 3 for entry in entries)

    # Another browser: the recipe gives the same bytes, and an image of ours its own recipe.
    with opened(chromium, url, size=size, expected=("status of 400",)) as other:
        drawn(other)
        other.get_by_label("Open files").set_input_files(recipe)
        expect(other.locator("#said")).to_contain_text("5 of them came out with the very same bytes")
        assert sorted(chosen(other)) == sorted(kept)
        other.get_by_label("Open files").set_input_files(own)
        expect(other.locator("#inspector")).to_contain_text("seed 1006")
        other.locator("#inspector").get_by_role("button", name="Close").click()
        for name, content, words in (
            ("recipe.json", b'{"format": "ganvas-recipe-1", "images": [{"model": "<b>"}]}', "a model in the recipe"),
            ("recipe.json", b"{", "not JSON"),
            ("note.png", b"hello", "must be an image file"),
            ("gone.json", recipe.read_bytes().replace(entries[0]["digest"].encode(), b"0" * 64), "could not be made"),
        ):
            file: Any = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
            other.get_by_label("Open files").set_input_files(file)
            expect(other.locator("#banner")).to_contain_text(words)


def test_an_upload_is_reconstructed_moved_by_sliders_and_blended(chromium: Browser, url: str, tmp_path: Path) -> None:
    picture = tmp_path / "mine.jpg"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (120, 80, 3), np.uint8)).save(picture)
    with opened(chromium, f"{url}?model=tiny-vae#sliders") as page:
        page.get_by_label("Image to upload").set_input_files(picture)
        expect(page.get_by_text("What the model makes of it")).to_be_visible()
        moved = page.locator("#room .pair img").nth(1)
        before = moved.get_attribute("src")
        slider = page.get_by_label("direction 1")
        slider.focus()
        for _ in range(8):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("(before) => document.querySelectorAll('#room .pair img')[1].src !== before", arg=before)
        expect(page.get_by_label("to 7")).to_be_visible()
        page.get_by_role("button", name="Choose it").click()
        expect(page.locator("#tray li")).to_have_count(1)
        (address,) = chosen(page)
        assert "/decode/" in address
        assert Image.open(io.BytesIO(fetch(url, address))).size == (32, 32)
        page.get_by_role("button", name="Back to the start").click()
        expect(slider).to_have_value("0")
        # Nothing of the upload itself is kept.
        assert "data:image" not in str(page.evaluate("() => JSON.stringify(localStorage)"))
        go(page, "look")
        drawn(page)
        choose(page, 1, 2)
        go(page, "blend")
        drawn(page)
        page.get_by_role("button", name="Choose this blend").click()
        expect(page.locator("#tray li")).to_have_count(4)


@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark"), ("laptop", "light"), ("wide", "dark")])
def test_every_room_is_accessible_and_fits_the_screen(chromium: Browser, url: str, size: str, scheme: Any) -> None:
    with opened(chromium, f"{url}?model=tiny-vae", size=size, color_scheme=scheme) as page:
        drawn(page)
        choose(page, 0, 1, 2)
        for room in ROOMS:
            go(page, room)
            drawn(page)
            assert violations(page) == [], room
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{room} is wider than {size}"
        go(page, "look")
        drawn(page)
        tiles(page).nth(3).locator(".open").click()
        expect(page.locator("#inspector")).to_be_visible()
        assert violations(page) == []


def test_a_service_that_died_is_said_and_comes_back_by_itself(chromium: Browser, url: str, serve: Serve) -> None:
    with opened(chromium, f"{url}?model=tiny-gan", expected=("503", "504", "Failed to load resource")) as page:
        drawn(page)
        ready = json.loads(serve.ready_file.read_text())
        os.kill(ready["gateway_pid"], signal.SIGKILL)
        page.get_by_role("button", name="Anywhere").click()
        drawn(page)
        expect(page.locator("#banner")).to_be_hidden()
        end = time.monotonic() + BACK_S
        while json.loads(serve.ready_file.read_text())["gateway_pid"] == ready["gateway_pid"]:
            assert time.monotonic() < end, "the gateway was never away"
            time.sleep(0.1)


def test_a_model_that_is_slow_or_gone_is_said_and_the_page_goes_on(chromium: Browser, url: str) -> None:
    with opened(chromium, f"{url}?model=tiny-gan") as page:
        page.clock.install()
        page.reload()
        drawn(page)
        choose(page, 0)
        kept: list[Any] = []

        def hold(route: Any) -> None:
            kept.append(route)

        page.route("**/images/*.png*", hold)
        page.get_by_label("From seed").fill("500")
        page.get_by_label("From seed").press("Enter")
        page.clock.fast_forward(6000)
        expect(page.locator("#banner")).to_contain_text("The model is slow, or busy")
        for route in kept:
            route.continue_()
        page.unroute("**/images/*.png*", hold)
        drawn(page)
        expect(page.locator("#banner")).to_be_hidden()

        def without(route: Any) -> None:
            models = [model for model in route.fetch().json()["models"] if model["name"] != "tiny-gan"]
            route.fulfill(json={"models": models})

        page.route("**/v1/models", without)
        page.clock.fast_forward(11_000)
        expect(page.locator("#banner")).to_contain_text("Model tiny-gan is no longer served")
        expect(page.locator("#tray li")).to_have_count(1)
        drawn(page)
        page.unroute("**/v1/models", without)
        page.clock.fast_forward(11_000)
        expect(page.get_by_label("Model", exact=True).locator("option")).to_have_count(3)


def test_keys_pass_through_and_the_page_asks_for_one(chromium: Browser, repository: Path, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    key = add_key(keys_file, "gallery")
    slow = {"Authorization": f"Bearer {add_key(keys_file, 'slow', '--rate', '1')}"}
    with running_serve(repository, tmp_path, "--http=0", f"--keys-file={keys_file}") as serve:
        url = str(serve.ready["studio"])
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(url, "/v1/models")
        assert refused.value.code == 401
        assert json.loads(refused.value.read())["code"] == "UNAUTHENTICATED"
        asked = urllib.request.Request(
            f"{url}v1/models/tiny-gan/images/1.png", headers={"Authorization": f"Bearer {key}"}
        )
        with urllib.request.urlopen(asked, timeout=60) as response:
            assert response.headers["cache-control"].startswith("private")
            permanent = response.url
        with pytest.raises(urllib.error.HTTPError) as refused:  # made already, but not for everybody
            urllib.request.urlopen(permanent, timeout=60)
        assert refused.value.code == 401
        # A key's quota, one request a second, paces whoever asks one image after the other.
        begun_s = time.monotonic()
        for seed in range(4):
            asked = urllib.request.Request(f"{url}v1/models/tiny-gan/images/{seed}.png", headers=slow)
            urllib.request.urlopen(asked, timeout=60).close()
        assert time.monotonic() - begun_s > 2.0
        with opened(chromium, url, expected=("401",)) as page:
            page.get_by_label("Key").fill(key)
            page.get_by_role("button", name="Use this key").click()
            drawn(page)
            expect(page.locator("#banner")).to_be_hidden()


def test_studio_starts_serving_by_itself_once_there_is_a_model(repository: Path, tmp_path: Path) -> None:
    models, ready_file = tmp_path / "models", tmp_path / "ready.json"
    models.mkdir()
    command = [sys.executable, "-m", "clients.studio", "studio", "--repository", str(models), "--no-open"]
    command += ["--port", "0", "--address", f"127.0.0.1:{free_port()}", "--ready-file", str(ready_file)]
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    try:
        _until(ready_file.exists)
        url = json.loads(ready_file.read_text())["url"]
        with pytest.raises(urllib.error.HTTPError) as empty:
            fetch(url, "/v1/models")
        assert "there is no model in" in json.loads(empty.value.read())["detail"]
        for name in ("plain-gan", "plain-gan-decode"):
            shutil.copytree(repository / name, models / name)

        def served() -> bool:
            try:
                return b"plain-gan" in fetch(url, "/v1/models")
            except urllib.error.HTTPError:
                return False

        _until(served)
        assert fetch(url, "/v1/models/plain-gan/images/3.png").startswith(b"\x89PNG")
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert "The studio is at" in output


def add_key(keys_file: Path, name: str, *options: str) -> str:
    command = [sys.executable, "-m", "serving", "keys", "add", name, "--keys-file", str(keys_file), *options]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()


def _until(condition: Any, timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
