"""Archives, arrays, label files, patches and the hub as collections."""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganvas_core.cli import UsageError
from tests.support.images import photograph, save_images
from training.data import DataOptions, load_dataset
from training.data.arrays import read_idx
from training.data.collection import check_label_names
from training.data.hub import collection_of
from training.data.labels import read_labels
from training.data.opening import open_data
from training.data.patches import patch

FILES = ["a/0.png", "a/1.png", "b/2.jpg"]


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def png(seed: int) -> bytes:
    file = io.BytesIO()
    photograph(seed).save(file, "PNG")
    return file.getvalue()


def idx(path: Path, array: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


# Label files.


def test_dataset_json_of_stylegan_gives_numbered_classes() -> None:
    text = json.dumps({"labels": [["a/0.png", 2], ["a/1.png", 0], ["b/2.jpg", 2]]}).encode()
    assert read_labels(text, "dataset.json", FILES, "x") == ([2, 0, 2], ("0", "1", "2"))
    assert read_labels(b'{"labels": null}', "dataset.json", FILES, "x") is None


@pytest.mark.parametrize(
    "text",
    [
        "file_name,label\na/0.png,cat\na/1.png,dog\nb/2.jpg,cat\n",
        "id,breed,class\na/0,x,cat\na/1,y,dog\nb/2,z,cat\n",
        "a/0.png,cat\na/1.png,dog\nb/2.jpg,cat\n",
        "\ufefffilename, label\r\na/0.png,cat\r\na/1.png,dog\r\nb/2.jpg,cat\r\n",
    ],
)
def test_csv_gives_named_classes(text: str) -> None:
    assert read_labels(text.encode(), "labels.csv", FILES, "x") == ([0, 1, 0], ("cat", "dog"))


def test_metadata_without_labels_has_none() -> None:
    rows = "\n".join(json.dumps({"file_name": file, "text": "a caption"}) for file in FILES)
    assert read_labels(rows.encode(), "metadata.jsonl", FILES, "x") is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dataset.json", "{", "cannot be read as labels"),
        ("dataset.json", "{}", "'labels' is missing"),
        ("dataset.json", '{"labels": [["a/0.png", [0.5, 1]]]}', "not a whole number"),
        ("dataset.json", '{"labels": [["a/0.png", 1]]}', r"has no label for a/1.png \(2 of 3 images\)"),
        ("dataset.json", '{"labels": [["../../etc/passwd", 1]]}', "is not below its own folder"),
        ("labels.csv", "file,label\n/etc/passwd,1\n", "is not below its own folder"),
        ("labels.csv", "label\ncat\n", "it has no column file_name or filename or file"),
        ("labels.csv", "file,label\na/0.png\n", "row 1 lacks a file or a label"),
        ("labels.csv", "a/0.png,../x\na/1.png,b\nb/2.jpg,c\n", "cannot be the name of a class"),
        ("labels.csv", "a/0.png,1\na/1.png,99999999\nb/2.jpg,3\n", "number the classes from 0"),
        ("labels.csv", "\udcff", "cannot be read"),
    ],
)
def test_wrong_label_files_are_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_labels(text.encode("utf-8", "surrogateescape"), name, FILES, "labels")


@settings(max_examples=60, deadline=None)
@given(text=st.binary(max_size=200), name=st.sampled_from(["dataset.json", "labels.csv", "metadata.jsonl"]))
def test_any_label_file_is_read_or_refused(text: bytes, name: str) -> None:
    with suppress(UsageError):
        found = read_labels(text, name, FILES, "labels")
        assert found is None or len(found[0]) == 3


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a\\b", "x\n", "x\x1b[31m", "x" * 101, "\u202eevil"])
def test_names_that_are_paths_or_not_text_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a class"):
        check_label_names(["fine", name], "here")


def test_labels_csv_in_a_folder_wins_over_folders(tmp_path: Path) -> None:
    save_images(tmp_path / "mine" / "x", 30)
    rows = "".join(f"x/{number:03d}.png,{'odd' if number % 2 else 'even'}\n" for number in range(30))
    (tmp_path / "mine" / "labels.csv").write_text(rows)
    collection = open_data(str(tmp_path / "mine"))
    assert collection.label_names == ("even", "odd")
    assert collection.labels == [number % 2 for number in range(30)]
    assert collection.num_ignored == 0


# Folders.


def test_hidden_files_and_junk_are_passed_over_and_others_counted(tmp_path: Path) -> None:
    save_images(tmp_path, 20)
    save_images(tmp_path / ".thumbnails", 3)
    save_images(tmp_path / "__MACOSX", 3)
    for name in ("Thumbs.db", ".DS_Store", "read me.txt"):
        (tmp_path / name).write_bytes(b"x")
    collection = open_data(str(tmp_path))
    assert (len(collection), collection.num_ignored, collection.labels) == (20, 1, None)


def test_images_beside_folders_have_no_classes(tmp_path: Path) -> None:
    save_images(tmp_path, 5)
    save_images(tmp_path / "more", 5, start=5)
    save_images(tmp_path / "others", 5, start=10)
    assert open_data(str(tmp_path)).labels is None


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    save_images(tmp_path / "mine" / "a", 5)
    (tmp_path / "mine" / "loop").symlink_to(tmp_path / "mine")
    assert len(open_data(str(tmp_path / "mine"))) == 5


# Archives.


def test_zip_of_stylegan_has_its_labels(tmp_path: Path) -> None:
    members = {f"00000/img{number:08d}.png": png(number) for number in range(24)}
    labels = [[name, number % 2] for number, name in enumerate(members)]
    path = zipped(tmp_path / "faces.zip", members | {"dataset.json": json.dumps({"labels": labels}).encode()})
    split = load_dataset(str(path), image_shape=(16, 16, 3), num_classes=2)
    assert len(split.train) + len(split.held_out) == 24
    assert split.train.label_names == ("0", "1")
    assert split.train.name == "faces"


def test_zip_of_a_folder_has_the_folders_below_as_classes(tmp_path: Path) -> None:
    members = {f"mine/{'ab'[number % 2]}/{number}.png": png(number) for number in range(10)}
    junk = {"__MACOSX/mine/a/0.png": b"x", "mine/.hidden.png": b"x"}
    collection = open_data(str(zipped(tmp_path / "x.zip", members | junk)))
    assert collection.label_names == ("a", "b")
    assert (len(collection), collection.num_ignored) == (10, 0)


def test_zip_never_writes_what_its_names_say(tmp_path: Path) -> None:
    members = {f"../../evil{number}.png": png(number) for number in range(20)}
    split = load_dataset(str(zipped(tmp_path / "x.zip", members)), image_shape=(16, 16, 3), num_classes=0)
    assert len(split.train) == 18
    assert not list(tmp_path.parent.glob("evil*"))
    assert not list(tmp_path.glob("evil*"))


def test_damaged_zip_and_damaged_member(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"PK no zip")
    with pytest.raises(UsageError, match="cannot be read as a zip"):
        open_data(str(tmp_path / "no.zip"))
    path = zipped(tmp_path / "x.zip", {f"{number}.png": png(number) for number in range(30)})
    data = bytearray(path.read_bytes())
    data[200:204] = b"\0\0\0\0"  # inside the first image, which is stored as it is
    path.write_bytes(data)
    split = load_dataset(str(path), image_shape=(16, 16, 3), num_classes=0)
    assert "0.png (Bad CRC-32" in split.notes[0]
    with pytest.raises(UsageError, match="holds no images"):
        open_data(str(zipped(tmp_path / "empty.zip", {"a.txt": b"x"})))


def test_zip_member_that_unpacks_to_too_much_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.archive.MAX_MEMBER_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"{number:02d}.png", png(number))
        archive.writestr("bomb.png", bytes(20_000))
    split = load_dataset(str(tmp_path / "x.zip"), image_shape=(16, 16, 3), num_classes=0)
    assert "bomb.png (it unpacks to" in split.notes[0]


# Arrays.


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_framed_and_keep_their_parts(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    images = {part: rng.integers(0, 256, (count, 14, 14), np.uint8) for part, count in (("train", 40), ("t10k", 10))}
    for part, array in images.items():
        idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", array)
        idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", (np.arange(len(array)) % 3).astype(np.uint8))
    split = load_dataset(str(tmp_path), image_shape=(16, 16, 1), num_classes=3)
    assert np.array_equal(split.train.images[:, 0, 1:15, 1:15], images["train"])
    assert np.array_equal(split.held_out.images[:, 0, 1:15, 1:15], images["t10k"])
    assert split.train.labels is not None
    assert split.train.labels.tolist() == [number % 3 for number in range(40)]
    assert int(split.train.images[:, :, 0].max()) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "unpack requires"),
        (b"\0\0\x0d\x01\0\0\0\x01abcd", "no IDX file of bytes"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "says it has 5 values, and has 3"),
        (b"\0\0\x08\x01\0\0\0\x02abc", "and has more"),
        (b"\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "says it has"),
    ],
)
def test_wrong_idx_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=message):
        read_idx(path)


@pytest.mark.parametrize("layout", [(40, 16, 16, 3), (40, 3, 16, 16), (40, 16, 16), (40, 16, 16, 1)])
def test_npz_in_every_layout(tmp_path: Path, layout: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, layout, np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(40)[:, None] % 4,
             x_test=images[:10], y_test=np.arange(10)[:, None] % 4)  # fmt: skip
    channels = 3 if 3 in layout else 1
    split = load_dataset(str(tmp_path / "x.npz"), image_shape=(16, 16, channels), num_classes=4)
    expected = images.transpose(0, 3, 1, 2) if layout[-1] in (1, 3) else images
    assert np.array_equal(split.train.images.numpy().reshape(-1), expected.reshape(-1))
    assert (len(split.held_out), split.train.label_names) == (10, ("0", "1", "2", "3"))
    assert split.notes == ("10 held-out images are also among those to train on, pixel for pixel",)


class Trap:
    """Unpickled, it would leave a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def test_npz_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "x.npz", images=np.array([Trap()], dtype=object))
    with pytest.raises(UsageError, match=r"cannot be read as .npz: Object arrays cannot be loaded"):
        open_data(str(tmp_path / "x.npz"))
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((9, 8, 8))}, r"images in .* is float64 \[9, 8, 8\]; it must be uint8"),
        ({"images": np.zeros((9, 8, 8, 7), np.uint8)}, r"must have 1, 3 or 4 channels"),
        ({"images": np.zeros((9, 8, 8), np.uint8), "labels": np.zeros(4, int)}, "whole number from 0 for each of 9"),
        ({"images": np.zeros((9, 8, 8), np.uint8), "labels": np.full(9, -1)}, "whole number from 0"),
        ({"faces": np.zeros((9, 8, 8), np.uint8)}, "holds faces; the images must be called x_train"),
    ],
)
def test_wrong_npz_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        open_data(str(tmp_path / "x.npz"))


def test_a_path_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "movie.mp4").write_bytes(b"x")
    with pytest.raises(UsageError, match="is of no kind that Ganvas reads: a folder of images"):
        open_data(str(tmp_path / "movie.mp4"))


# Patches.


def test_patches_are_a_function_of_their_index_and_never_end() -> None:
    far = patch(10**12, height=16, width=24)
    assert far.size == (24, 16)
    assert far.tobytes() == patch(10**12, height=16, width=24).tobytes()
    assert far.tobytes() != patch(10**12 + 2, height=16, width=24).tobytes()
    with pytest.raises(ValueError, match="index must be at least 0"):
        patch(-1, height=16, width=16)


def test_patches_have_two_classes_and_a_part_of_the_photographs_apart() -> None:
    options = DataOptions(max_images=60)
    split = load_dataset("patches", image_shape=(16, 16, 3), num_classes=2, options=options)
    assert (len(split.train), len(split.held_out)) == (50, 10)
    assert split.train.class_counts == {"china": 25, "flower": 25}
    assert split.train.license == "CC-BY-2.0"
    with pytest.raises(UsageError, match="a patch of 512x512 does not fit into 128x427"):
        load_dataset("patches", image_shape=(512, 512, 3), num_classes=0, options=options)


# The hub.


class Image:
    """Stands for datasets.Image: the library is 150 MB, and its data sets need the network."""

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ClassLabel:
    names = ("cat", "dog")
    int2str = None


class Part:
    """Stands for datasets.Dataset."""

    def __init__(self, count: int, start: int, decode: bool = True) -> None:
        self.count, self.start, self.decode = count, start, decode
        self.features = {"img": Image(), "label": ClassLabel()}
        self.info = type("Info", (), {"license": "mit"})
        self._fingerprint = f"{count} {start}"

    def __len__(self) -> int:
        return self.count

    def cast_column(self, column: str, feature: Image) -> Part:
        assert column == "img"
        return Part(self.count, self.start, feature.decode)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return [number % 2 for number in range(self.count)]
        assert not self.decode
        return {"img": {"bytes": png(self.start + key), "path": None}, "label": key % 2}


def test_hub_gives_both_parts_and_the_classes() -> None:
    collection = collection_of({"train": Part(6, 0), "test": Part(4, 100)}, "someone/animals")
    assert (len(collection), collection.label_names, collection.license) == (10, ("cat", "dog"), "mit")
    assert collection.held_out == [False] * 6 + [True] * 4
    assert collection.labels == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert np.array_equal(np.asarray(collection.read(7)), np.asarray(photograph(101)))


@pytest.mark.parametrize(
    ("name", "asked"), [("someone/animals", ("someone/animals", None)), ("a/b,small", ("a/b", "small"))]
)
def test_hub_is_asked_by_name_and_configuration(
    name: str, asked: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def load(repository: str, configuration: str | None) -> dict[str, Part]:
        found.append((repository, configuration))
        return {"validation": Part(4, 100), "train": Part(20, 0)}

    monkeypatch.setitem(sys.modules, "datasets", type("Library", (), {"load_dataset": staticmethod(load)}))
    split = load_dataset(f"hf:{name}", image_shape=(16, 16, 3), num_classes=2)
    assert found == [asked]
    assert (len(split.train), len(split.held_out)) == (20, 4)
    assert (split.train.name, split.train.label_names, split.train.license) == (f"hf:{name}", ("cat", "dog"), "mit")
    assert split.train.class_counts == {"cat": 10, "dog": 10}


def test_hub_without_the_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs Hugging Face's library: .venv/bin/pip install datasets"):
        load_dataset("hf:someone/animals", image_shape=(16, 16, 3), num_classes=0)


def test_hub_without_the_network_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, configuration: str | None) -> None:
        raise ConnectionError(f"Couldn't reach {name} on the Hub\nmore")

    monkeypatch.setitem(sys.modules, "datasets", type("Library", (), {"load_dataset": staticmethod(load)}))
    with pytest.raises(UsageError, match="cannot be loaded: Couldn't reach someone/animals") as caught:
        load_dataset("hf:someone/animals", image_shape=(16, 16, 3), num_classes=0)
    assert "\n" not in str(caught.value)


def test_hub_needs_images() -> None:
    part = Part(6, 0)
    part.features = {"text": ClassLabel()}
    with pytest.raises(UsageError, match="has no column of images; it has text"):
        collection_of({"train": part}, "someone/texts")
