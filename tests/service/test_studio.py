"""The studio's HTTP: the service's bytes at permanent addresses, and its words where something is wrong."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.studio.app import STATIC
from ganvas_client import AsyncSampler, Sampler, latents
from ganvas_core.requests.walk import slerp
from serving.repository.reader import Repository
from tests.support.kserve import KServe
from tests.support.service import LoopThread, Service, running_service
from tests.support.studio import Reply, Studio, running_studio

GAN = "/v1/models/tiny-gan"


class Counting(AsyncSampler):
    """Notes how many images each call asks for; 0: it is about a model."""

    asked: list[int]

    async def _call(self, call: Any) -> Any:
        request = call.request
        count = (len(request.seeds) or request.range.count) if hasattr(request, "seeds") else 0
        self.asked = [*getattr(self, "asked", []), count]
        return await super()._call(call)


@pytest.fixture(scope="module")
def studio(
    loop_thread: LoopThread, shared_service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    with running_studio(loop_thread, shared_service.address, sampler=Counting) as studio:
        yield studio


@pytest.fixture(scope="module")
def sampler(shared_service: Service) -> Iterator[Sampler]:
    with Sampler(shared_service.address) as sampler:
        yield sampler


def detail(reply: Reply) -> str:
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == reply.status
    return str(problem["detail"])


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_image_is_the_bytes_of_the_service(studio: Studio, sampler: Sampler, suffix: str) -> None:
    file_format: Any = {"jpg": "jpeg"}.get(suffix, suffix)
    (expected,) = sampler.sample("tiny-gan", [42], labels=3, truncation=0.7, format=file_format).bytes
    reply = studio.ask(f"{GAN}/images/42.{suffix}?label=3&truncation=0.7")
    assert reply.status == 200
    assert reply.headers["content-type"] == f"image/{file_format}"
    assert reply.body == expected


def test_short_address_leads_to_the_permanent_one(studio: Studio, sampler: Sampler) -> None:
    digest = sampler.model("tiny-gan").digest
    reply = studio.ask(f"{GAN}/pictures/7.png?truncation=0.50&label=3", follow=False)
    assert reply.status == 307
    assert reply.headers["location"] == f"{GAN}@{digest}/images/7.png?label=3&truncation=0.5"
    assert reply.headers["cache-control"] == "no-cache"
    named = studio.ask(f"{GAN}/images/7", follow=False, accept="image/webp")
    assert named.headers["location"].endswith("/7.webp")
    assert named.headers["vary"] == "Accept"


def test_permanent_address_is_cached_for_ever_and_revalidated_without_the_model(
    studio: Studio, sampler: Sampler
) -> None:
    address = f"{GAN}@{sampler.model('tiny-gan').digest}/images/99.png"
    first = studio.ask(address)
    assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
    asked = len(studio.sampler.asked)  # type: ignore[attr-defined]
    again = studio.ask(address)
    unchanged = studio.ask(address, if_none_match=first.headers["etag"])
    head = studio.ask(address, method="HEAD")
    assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(first.body)))
    assert len(studio.sampler.asked) == asked  # type: ignore[attr-defined]
    never_asked = address.replace("/99.png", "/98.png")
    tag = studio.ask(never_asked, method="HEAD").headers["etag"]
    assert tag != first.headers["etag"]
    made_again = studio.ask(address, cache_control="no-cache")
    assert made_again.body == first.body
    assert len(studio.sampler.asked) > asked  # type: ignore[attr-defined]


def test_image_asked_for_by_many_at_once_is_made_once_and_others_share_calls(studio: Studio, sampler: Sampler) -> None:
    base = f"{GAN}@{sampler.model('tiny-gan').digest}/images"
    counting: Any = studio.sampler
    for first in range(5000, 5600, 60):  # on a busy machine they may not come at once, for a while
        seeds = [*range(first, first + 40), *[first + 50] * 40]
        before = len(counting.asked)
        with ThreadPoolExecutor(40) as pool:
            bodies = list(pool.map(lambda seed: studio.ask(f"{base}/{seed}.png").body, seeds))
        expected = dict(zip(seeds, sampler.sample("tiny-gan", seeds, format="png").bytes, strict=True))
        assert bodies == [expected[seed] for seed in seeds]
        calls = [count for count in counting.asked[before:] if count]
        assert sum(calls) == 41, "an image was asked for twice"
        if len(calls) < 41:
            return
    raise AssertionError("no two images shared a call")


def test_latent_image_is_that_of_decode_and_has_an_address(studio: Studio, sampler: Sampler) -> None:
    z = latents([5], 16) * np.float32(0.5)
    (expected,) = sampler.decode("tiny-gan", z, labels=4, format="png").bytes
    reply = studio.post(f"{GAN}/decode", {"latents": z.tolist(), "labels": [4]})
    assert reply.status == 200
    (image,) = reply.json()["images"]
    assert base64.b64decode(image["data"]) == expected
    assert studio.ask(image["address"]).body == expected
    as_file = studio.post(f"{GAN}/decode", {"latents": z.tolist(), "labels": [4]}, accept="image/png")
    assert as_file.body == expected


def test_latents_of_seeds_are_those_of_the_noise(studio: Studio) -> None:
    found = studio.ask(f"{GAN}/latents/3,4.json?truncation=0.5").json()
    expected = latents([3, 4], 16) * np.float32(0.5)
    assert [base64.b64decode(row) for row in found["latents"]] == [row.tobytes() for row in expected]


@pytest.mark.parametrize(("query", "labels"), [("?label=7", [7, 7]), ("", [3, 4])])
def test_latents_of_seeds_decode_to_their_images(
    studio: Studio, sampler: Sampler, query: str, labels: list[int]
) -> None:
    """Also where what they are drawn from depends on the label."""
    digest = sampler.model("tiny-vae").digest
    found = studio.ask(f"/v1/models/tiny-vae@{digest}/latents/3,4.json{query}").json()
    z = np.stack([np.frombuffer(base64.b64decode(row), np.float32) for row in found["latents"]])
    expected = sampler.sample("tiny-vae", [3, 4], labels=labels)
    assert sampler.decode("tiny-vae", z, labels=labels).bytes == expected.bytes


def test_sheet_holds_the_images_side_by_side(studio: Studio, sampler: Sampler) -> None:
    images = sampler.sample("tiny-gan", range(6), labels=2).array
    reply = studio.ask(f"{GAN}/sheets/0-5.png?columns=3&label=2&scale=2")
    sheet = np.asarray(Image.open(io.BytesIO(reply.body)))
    assert sheet.shape == (2 * 66 + 2, 3 * 66 + 2)
    cell = sheet[68:132, 134:198]
    assert (cell == images[5, :, :, 0].repeat(2, 0).repeat(2, 1)).all()
    assert Image.open(io.BytesIO(reply.body)).text["ganvas:seeds"] == "0-5"  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_walk_is_an_animation_of_the_frames_of_the_service(studio: Studio, sampler: Sampler, suffix: str) -> None:
    frames = [frame.array for frame in sampler.walk("tiny-gan", [1, 2, 3], steps=3, label=1)]
    reply = studio.ask(f"{GAN}/walks/1,2,3.{suffix}?steps=3&label=1&ms=50")
    assert reply.headers["content-type"] == f"image/{suffix}"
    with Image.open(io.BytesIO(reply.body)) as animation:
        assert animation.n_frames == len(frames) == 7  # type: ignore[attr-defined]
        for index, frame in enumerate(frames):
            animation.seek(index)
            assert (np.asarray(animation.convert("L")) == frame[:, :, 0]).all()


def test_walk_of_latents_is_on_the_arc_between_them(studio: Studio, sampler: Sampler) -> None:
    z = latents([1, 2], 16)
    t = np.arange(4) / 4
    between = slerp(z[[0] * 4], z[[1] * 4], t)
    expected = sampler.decode("tiny-gan", between, labels=[3, 3, 5, 5]).array
    body = {"latents": z.tolist(), "labels": [3, 5], "steps": 4, "loop": True, "format": "webp"}
    reply = studio.post(f"{GAN}/walks", body)
    assert reply.status == 200
    with Image.open(io.BytesIO(reply.body)) as animation:
        for index, frame in enumerate(expected):
            animation.seek(index)
            assert (np.asarray(animation.convert("L")) == frame[:, :, 0]).all()


def test_encode_fits_any_image_and_gives_the_posterior_of_it(studio: Studio, sampler: Sampler) -> None:
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8)).save(file, "JPEG")
    reply = studio.ask("/v1/models/tiny-vae/encode", method="POST", body=file.getvalue())
    assert reply.status == 200
    found = reply.json()
    (posterior,) = sampler.encode("tiny-vae", base64.b64decode(found["fitted"])).mean
    assert base64.b64decode(found["mean"]) == posterior.tobytes()


def test_models_say_what_a_page_needs(studio: Studio, sampler: Sampler) -> None:
    models = {model["name"]: model for model in studio.ask("/v1/models").json()["models"]}
    assert set(models) == {"tiny-gan", "tiny-vae", "plain-gan"}
    assert models["tiny-vae"]["can_encode"]
    info = sampler.model("tiny-gan")
    assert models["tiny-gan"]["address"] == f"{GAN}@{info.digest}"
    assert studio.ask(f"{GAN}/certificate").body.decode() == info.certificate_json
    assert studio.ask(GAN).json()["truncation"] == "latent"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/nope/images/1.png", 404, "model 'nope' is unknown; there is: plain-gan, tiny-gan, tiny-vae."),
        (f"{GAN}@{'0' * 64}/images/1.png", 400, "0000000000000000"),
        (f"{GAN}@abc/images/1.png", 400, "digest must be a SHA-256"),
        (f"{GAN}/images/-1.png", 400, "seed must be"),
        (f"{GAN}/images/18446744073709551616.png", 400, "seed must be"),
        (f"{GAN}/images/1.png?truncation=nan", 400, "finite"),
        (f"{GAN}/images/1.png?truncation=7", 400, "truncation must be within [0, 1.5]; got 7"),
        (f"{GAN}/images/1.png?label=<b>", 400, "label must be"),
        (f"{GAN}/images/1.png?label=10", 400, "label must be"),
        ("/v1/models/plain-gan/images/1.png?label=0", 400, "unconditional"),
        (f"{GAN}/images/1.png?colour=red", 400, "unknown field 'colour'"),
        (f"{GAN}/images/1.bmp", 404, "images end in"),
        (f"{GAN}/sheets/0-99999.png", 400, "at most 1024"),
        (f"{GAN}/sheets/0-18446744073709551615.png", 400, "at most 1024"),
        (f"{GAN}/sheets/0-1023.png?scale=16", 400, "million pixels"),
        (f"{GAN}/sheets/0-3.png?columns=0", 400, "columns must be"),
        (f"{GAN}/walks/1.gif", 400, "2 seeds or more"),
        (f"{GAN}/walks/1-500.gif?steps=900", 400, "at most 960 frames"),
        (f"{GAN}/walks/1,2.exe", 404, "walks end in"),
        (f"{GAN}/decode/AAAA.png?label=1", 400, "latent must be base64url of 64 bytes"),
        (f"{GAN}/directions", 404, "--repository"),
        ("/v1/models/..%2F..%2Fetc/images/1.png", 404, "there is nothing at"),
        ("/static/..%2f..%2fapp.py", 404, "there is nothing at"),
        ("/static/../app.py", 404, "there is nothing at"),
        ("/nowhere", 404, "there is nothing at '/nowhere'"),
    ],
)
def test_bad_address_is_a_problem_with_words_for_it(studio: Studio, path: str, status: int, words: str) -> None:
    reply = studio.ask(path)
    assert reply.status == status
    assert words in detail(reply)
    assert "<b>" not in reply.headers["content-type"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "the body"),
        (b'{"latents": []}', "latents"),
        (b'{"latents": [[1]], "labels": [1]}', "latents[0] must be 16 numbers"),
        (b'{"latents": [[1e39,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]], "labels": [1]}', "finite"),
        (b'{"latents": [[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]]}', "labels must be 1 or 1"),
        (b'{"latents": [[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]], "labels": [10]}', "label must be"),
        (b'{"latents": [[0]], "colour": 1}', "colour is unknown"),
    ],
)
def test_bad_body_is_a_problem_with_words_for_it(studio: Studio, body: bytes, words: str) -> None:
    reply = studio.ask(f"{GAN}/decode", method="POST", body=body, content_type="application/json")
    assert reply.status == 400
    assert words in detail(reply)


def test_uploads_that_are_no_image_or_a_bomb_are_refused(studio: Studio) -> None:
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    vae = "/v1/models/tiny-vae/encode"
    for data, words in ((bomb.getvalue(), "at most 24 million pixels"), (b"<svg/>", "must be an image file")):
        reply = studio.ask(vae, method="POST", body=data)
        assert reply.status == 400
        assert words in detail(reply)
    cut = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(cut, "PNG")
    assert "damaged" in detail(studio.ask(vae, method="POST", body=cut.getvalue()[:-30]))
    assert "16 MiB" in detail(studio.ask(vae, method="POST", body=bytes(17 * 2**20)))
    assert "no encoder" in detail(studio.ask(f"{GAN}/encode", method="POST", body=b"x"))
    assert studio.ask("/v1/models").status == 200


def test_wrong_method_says_which_there_are(studio: Studio) -> None:
    reply = studio.ask(f"{GAN}/images/1.png", method="DELETE")
    assert reply.status == 405
    assert "GET" in detail(reply)


def test_client_that_leaves_in_the_middle_harms_nobody(studio: Studio) -> None:
    path = studio.ask(f"{GAN}/walks/7000-7060.webp?steps=15", follow=False).headers["location"]
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", studio.port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.02)
    with socket.create_connection(("127.0.0.1", studio.port)) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert studio.ask(f"{GAN}/images/1.png").status == 200


def test_idle_connections_by_the_hundred_keep_nobody_out_and_silent_ones_are_closed(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.studio.server.SILENT_S", 1.0)
    idle = [socket.create_connection(("127.0.0.1", studio.port)) for _ in range(400)]
    try:
        idle[0].sendall(b"GET /v1/models HTTP/1.1\r\nHost: local")  # a head that never ends
        assert studio.ask(f"{GAN}/images/1.png").status == 200
        for connection in idle:
            connection.settimeout(30)
            with contextlib.suppress(ConnectionResetError):  # what it has sent may be unread
                assert connection.recv(1) == b""
    finally:
        for connection in idle:
            connection.close()
    assert studio.ask("/v1/models").status == 200


def test_one_connection_too_many_takes_the_place_of_the_one_that_waited_longest(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.studio.server.MAX_CONNECTIONS", 8)
    with contextlib.ExitStack() as opened:
        idle = [opened.enter_context(socket.create_connection(("127.0.0.1", studio.port))) for _ in range(12)]
        assert studio.ask(f"{GAN}/images/1.png").status == 200
        for connection in idle[:5]:
            connection.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        idle[-1].sendall(b"HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        idle[-1].settimeout(30)
        assert idle[-1].recv(12) == b"HTTP/1.1 200"


def test_connections_beyond_the_limit_are_refused_at_once(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.studio.server.MAX_CONNECTIONS", 0)
    with socket.create_connection(("127.0.0.1", studio.port)) as connection:
        connection.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    monkeypatch.undo()
    assert studio.ask("/v1/models").status == 200


def test_page_and_problems_allow_no_script_but_the_files_of_the_page(studio: Studio) -> None:
    for path in ("/", "/nowhere", "/static/main.js"):
        policy = studio.ask(path).headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
    page = studio.ask("/").body.decode()
    assert not re.search(r"<script(?![^>]*src=)|<style| on\w+=| style=", page)
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        assert studio.ask(name).status == 200
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        assert "innerHTML" not in text
        assert not re.findall(r"https?://(?!www\.w3\.org)", text) or file.name == "openapi.json"


def test_openapi_lists_every_route_with_an_example(studio: Studio) -> None:
    document = studio.ask("/v1/openapi.json").json()
    paths = set(document["paths"])
    from clients.studio.app import Settings, make_app

    app = make_app(AsyncSampler("127.0.0.1:1"), Settings())
    routes = {route.path for route in app._app.routes if route.path.startswith("/v1/")}  # type: ignore[attr-defined]
    assert paths == routes - {"/v1/openapi.json"}
    assert all("example" in json.dumps(entry) for entry in document["paths"].values())


def test_studio_by_another_name_is_not_answered(loop_thread: LoopThread, shared_service: Service) -> None:
    with running_studio(loop_thread, shared_service.address, hosts=frozenset({"localhost"})) as studio:
        assert studio.ask("/v1/models", host="localhost:80").status == 200
        rebound = studio.ask("/v1/models", host="evil.example")
        assert rebound.status == 421
        assert "--allow-host" in detail(rebound)


def test_cors_is_by_choice(loop_thread: LoopThread, shared_service: Service, studio: Studio) -> None:
    origin = "https://gallery.example"
    assert "access-control-allow-origin" not in studio.ask("/v1/models", origin=origin).headers
    with running_studio(loop_thread, shared_service.address, cors_origins=(origin,)) as open_studio:
        assert open_studio.ask("/v1/models", origin=origin).headers["access-control-allow-origin"] == origin


def test_what_was_made_stays_while_the_service_is_away(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    with running_service(loop_thread, repository, peer.address) as service:
        manager = running_studio(loop_thread, service.address, hint=lambda: "start it: ./ganvas serve")
        studio = manager.__enter__()
        address = studio.ask(f"{GAN}/images/1.png", follow=False).headers["location"]
        made = studio.ask(address)
        assert made.status == 200
    try:
        assert studio.ask(address).body == made.body
        assert studio.ask(address, if_none_match=made.headers["etag"]).status == 304
    finally:
        manager.__exit__(None, None, None)


def test_dead_service_is_unavailable_with_what_the_studio_knows(loop_thread: LoopThread) -> None:
    with running_studio(loop_thread, "127.0.0.1:9", hint=lambda: "start it: ./ganvas serve") as studio:
        reply = studio.ask("/v1/models")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert detail(reply) == "start it: ./ganvas serve"
        assert studio.ask("/").status == 200
