from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganvas_core.cli import UsageError
from training.data import load_dataset
from training.data.get import emoji as emoji_module
from training.data.get import fashion as fashion_module
from training.data.get import get_set
from training.data.get.dicebear import license_of, style_names
from training.data.get.download import Download, DownloadError, fetch
from training.data.get.emoji import read_package
from training.data.get.fashion import COPYRIGHT, DATA_FOLDER, FILES, LABEL_NAMES, package_members
from training.data.get.record import read_record


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address on loopback that serves it."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def idx(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


def tarred(members: dict[str, bytes], mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def debian_package(members: dict[str, bytes]) -> bytes:
    """An ar archive as dpkg-deb writes it."""
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": tarred({}, "w:xz"), "data.tar.xz": tarred(members, "w:xz")}
    archive = b"!<arch>\n"
    for name, data in parts.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        archive += data + b"\n" * (len(data) % 2)
    return archive


def small_fashion() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    members = {COPYRIGHT: b"Copyright: Zalando\nLicense: Expat\n"}
    for name in FILES:
        count = 100 if name.startswith("train") else 20
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        members[DATA_FOLDER + name] = idx(images if "images" in name else (np.arange(count) % 10).astype(np.uint8))
    return members


def published(site: tuple[Path, str], name: str, data: bytes) -> Download:
    (site[0] / name).write_bytes(data)
    return Download(urls=(f"{site[1]}/{name}",), num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def get(name: str, count: int = 20, size: int = 16, overwrite: bool = False) -> bool:
    return get_set(name, count=count, size=size, overwrite=overwrite, on_progress=lambda done, whole: None)[2]


def test_fashion_is_downloaded_unpacked_kept_and_trained_on(
    site: tuple[Path, str], data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"fashion is not here yet. Get it: ./ganvas data get fashion"):
        load_dataset("fashion", image_shape=(32, 32, 1), num_classes=10)
    package = published(site, "fashion.deb", debian_package(small_fashion()))
    monkeypatch.setattr(fashion_module, "PACKAGE", package)
    assert get("fashion")
    (site[0] / "fashion.deb").unlink()
    assert not get("fashion")  # it is there, so nothing is downloaded

    record = read_record(data_home / "fashion")
    assert record is not None
    assert (record.license, set(record.sha256)) == ("MIT", {*FILES, "LICENSE.txt"})
    assert "Zalando" in (data_home / "fashion" / "LICENSE.txt").read_text()
    split = load_dataset("fashion", image_shape=(32, 32, 1), num_classes=10)
    assert (len(split.train), len(split.held_out)) == (100, 20)
    assert split.train.label_names == LABEL_NAMES
    assert (split.train.license, split.train.name) == ("MIT", "fashion")
    assert split.train.images[:, :, :2].max() == 0  # 28 pixels in a black frame
    assert split.train.images[:, :, 2:30, 2:30].float().std() > 70


def test_a_changed_file_of_a_set_is_noticed(
    site: tuple[Path, str], data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_module, "PACKAGE", published(site, "f.deb", debian_package(small_fashion())))
    get("fashion")
    path = data_home / "fashion" / FILES[0]
    path.write_bytes(path.read_bytes() + b"x")
    for action in (lambda: load_dataset("fashion", image_shape=(32, 32, 1), num_classes=10), lambda: get("fashion")):
        with pytest.raises(UsageError, match=r"it was changed or damaged. Get it again: ./ganvas data get"):
            action()
    assert get("fashion", overwrite=True)
    assert len(load_dataset("fashion", image_shape=(32, 32, 1), num_classes=10).train) == 100


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (b"no package", "cannot be unpacked"),
        (debian_package({COPYRIGHT: b"x"}), "the package lacks ./usr/share/datasets/fashion-mnist/"),
    ],
)
def test_another_package_is_refused(package: bytes, message: str) -> None:
    with pytest.raises(DownloadError, match=message):
        package_members(package, {COPYRIGHT, DATA_FOLDER + FILES[0]})


def test_what_is_downloaded_must_have_its_hash_and_size(site: tuple[Path, str]) -> None:
    good = published(site, "file", b"right")
    assert fetch(good) == b"right"
    (site[0] / "file").write_bytes(b"wrong")
    with pytest.raises(DownloadError, match=r"5 bytes with SHA-256 .*, expected 5 bytes with"):
        fetch(good)
    (site[0] / "file").write_bytes(b"right and far too long")
    with pytest.raises(DownloadError, match=r"6 bytes with SHA-256"):
        fetch(good)


def test_the_second_address_is_tried(site: tuple[Path, str]) -> None:
    good = published(site, "file", b"right")
    twice = Download(urls=(f"{site[1]}/gone", *good.urls), num_bytes=good.num_bytes, sha256=good.sha256)
    assert fetch(twice) == b"right"


def test_no_network_is_said_in_one_line(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fashion_module, "PACKAGE", Download(urls=("http://127.0.0.1:1/x.deb",), num_bytes=10, sha256="0" * 64)
    )
    with pytest.raises(DownloadError, match=r"no connection \(.*\). Check the network") as caught:
        get("fashion")
    assert "\n" not in str(caught.value)
    assert not (data_home / "fashion").exists()
    assert list(data_home.iterdir()) == []


def test_critters_are_drawn_from_seeds_and_are_the_same_again(data_home: Path) -> None:
    assert get("critters", count=24, size=32)
    first = load_dataset("critters", image_shape=(32, 32, 3), num_classes=0)
    assert len(first.train) + len(first.held_out) == 24
    assert first.train.license == "CC0 1.0"
    assert first.train.images.float().std() > 30
    assert not get("critters", count=24, size=32)
    assert get("critters", count=24, size=32, overwrite=True)
    again = load_dataset("critters", image_shape=(32, 32, 3), num_classes=0)
    assert again.train.sha256 == first.train.sha256
    with pytest.raises(UsageError, match=r"holds 24 images of 32x32, not 30 of 32x32. Add --overwrite"):
        get("critters", count=30, size=32)
    assert "publicdomain/zero" in (data_home / "critters" / "LICENSE.txt").read_text()


def test_other_styles_are_other_sets() -> None:
    assert {"critters", "thumbs", "pixelbot", "shapes"} <= set(style_names())
    assert license_of("micah") == "CC BY 4.0"
    assert get("pixelbot", count=20, size=16)
    assert len(load_dataset("pixelbot", image_shape=(16, 16, 3), num_classes=0).train) > 10


@pytest.mark.parametrize("name", ["../fashion", "/etc", "nothing", ""])
def test_a_name_is_never_a_path(name: str, data_home: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*: ./ganvas data list"):
        get(name)
    assert not data_home.exists()


def test_a_folder_of_the_users_own_is_not_replaced(data_home: Path) -> None:
    (data_home / "critters").mkdir(parents=True)
    (data_home / "critters" / "mine.txt").write_text("dear to me")
    with pytest.raises(UsageError, match="exists and is not a data set of ours"):
        get("critters", overwrite=True)
    assert (data_home / "critters" / "mine.txt").exists()


def emoji_package() -> bytes:
    members = {"package/LICENSE": b"The MIT License"}
    entries: list[dict[str, object]] = []
    for number in range(30):
        image = io.BytesIO()
        Image.new("RGBA", (64, 64), (8 * number, 0, 0, 128)).save(image, "PNG")
        members[f"package/img/google/64/{number}.png"] = image.getvalue()
        skin = {"1F3FB": {"image": f"{number}.png"}} if number % 10 == 3 else {}
        if not skin:
            entries.append({"image": f"{number}.png", "category": "Food & Drink" if number % 2 else "Flags"})
        else:
            entries.append({"image": "gone.png", "category": "Food & Drink", "skin_variations": skin})
    members["package/emoji.json"] = json.dumps(entries).encode()
    return tarred(members, "w:gz")


def test_emoji_have_the_groups_of_unicode(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emoji_module, "PACKAGE", published(site, "emoji.tgz", emoji_package()))
    assert get("emoji")
    split = load_dataset("emoji", image_shape=(64, 64, 3), num_classes=2)
    assert split.train.label_names == ("Flags", "Food and Drink")
    assert len(split.train) + len(split.held_out) == 30
    assert split.train.images[:, 1].float().mean() == pytest.approx(127, abs=1)  # half transparent, on white


@pytest.mark.parametrize("package", [b"no tar", tarred({"package/LICENSE": b""}, "w:gz")])
def test_another_emoji_package_is_refused(package: bytes) -> None:
    with pytest.raises(DownloadError, match="the package cannot be unpacked"):
        read_package(package)
