from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganvas_core.cli import UsageError, UserError
from tests.support.disk import full_disk
from tests.support.images import photograph, save_images
from training.data import DataOptions, Split, cache, load_dataset

SHAPE = (16, 16, 3)


def load(path: Path, shape: tuple[int, int, int] = SHAPE, num_classes: int = 0, **options: object) -> Split:
    return load_dataset(str(path), image_shape=shape, num_classes=num_classes, options=DataOptions(**options))  # type: ignore[arg-type]


def test_folder_gives_every_image_once_and_holds_a_tenth_out(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 60)
    split = load(tmp_path / "mine")
    assert (len(split.train), len(split.held_out)) == (54, 6)
    rows = torch.cat([split.train.images, split.held_out.images]).flatten(1)
    assert len({row.numpy().tobytes() for row in rows}) == 60
    assert split.train.images.shape[1:] == (3, 16, 16)
    assert split.train.images.dtype == torch.uint8
    assert (split.train.name, split.train.labels, split.train.label_names) == ("mine", None, ())
    assert split.notes == ()


def test_folder_without_options_is_the_middle_of_each_image(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 30, size=(32, 16))
    split = load(tmp_path / "mine")
    middle = np.asarray(Image.open(tmp_path / "mine" / "000.png").crop((8, 0, 24, 16))).transpose(2, 0, 1)
    every = torch.cat([split.train.images, split.held_out.images]).numpy()
    assert any(np.array_equal(middle, image) for image in every)


def test_folders_are_classes_and_each_is_held_out_in_part(tmp_path: Path) -> None:
    for number, name in enumerate(("zebra", "ant", "bee")):
        save_images(tmp_path / "mine" / name, 20, start=100 * number)
    split = load(tmp_path / "mine", num_classes=3)
    assert split.train.label_names == ("ant", "bee", "zebra")
    assert split.train.class_counts == {"ant": 18, "bee": 18, "zebra": 18}
    assert split.held_out.class_counts == {"ant": 2, "bee": 2, "zebra": 2}
    ants = [photograph(number) for number in range(100, 120)]
    of_ants = {ant.resize((16, 16), Image.Resampling.LANCZOS, box=(2, 0, 22, 20)).tobytes() for ant in ants}
    assert split.held_out.labels is not None
    held_out_ants = split.held_out.images[split.held_out.labels == 0]
    assert {image.permute(1, 2, 0).contiguous().numpy().tobytes() for image in held_out_ants} <= of_ants


def test_folders_train_and_test_are_the_parts(tmp_path: Path) -> None:
    for part, count, start in (("train", 24, 0), ("test", 5, 50)):
        save_images(tmp_path / "mine" / part / "a", count, start=start)
        save_images(tmp_path / "mine" / part / "b", count, start=start + 200)
    split = load(tmp_path / "mine", num_classes=2)
    assert (len(split.train), len(split.held_out)) == (48, 10)
    assert split.train.label_names == ("a", "b")


def test_copies_of_an_image_stay_on_one_side(tmp_path: Path) -> None:
    for copy in "abc":
        for path in save_images(tmp_path / "mine", 40, suffix=f"-{copy}.png"):
            assert path.exists()
    split = load(tmp_path / "mine")
    train = {image.numpy().tobytes() for image in split.train.images}
    assert len(train) == 36
    assert not train & {image.numpy().tobytes() for image in split.held_out.images}


def test_new_images_move_few_old_ones_to_the_other_side(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 100)
    before = {image.numpy().tobytes() for image in load(tmp_path / "mine").held_out.images}
    save_images(tmp_path / "mine", 10, start=100)
    after = {image.numpy().tobytes() for image in load(tmp_path / "mine").train.images}
    assert len(before & after) <= 2


def test_oblong_network_gets_oblong_images(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 20, size=(40, 40))
    split = load(tmp_path / "mine", shape=(16, 32, 1))
    assert split.train.images.shape[1:] == (1, 16, 32)


def test_random_crops_are_four_parts_to_train_on_and_the_middle_to_measure_on(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 40, size=(48, 20))
    middle, random = load(tmp_path / "mine"), load(tmp_path / "mine", crop="random")
    assert len(random.train) == 4 * len(middle.train)
    assert torch.equal(random.held_out.images, middle.held_out.images)
    assert len({image.numpy().tobytes() for image in random.train.images}) == len(random.train)


def test_random_crops_of_square_images_are_no_copies(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 40, size=(20, 20))
    assert torch.equal(load(tmp_path / "mine", crop="random").train.images, load(tmp_path / "mine").train.images)


def test_max_images_takes_always_the_same(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 60)
    first = load(tmp_path / "mine", max_images=30)
    assert len(first.train) + len(first.held_out) == 30
    assert first.train.sha256 == load(tmp_path / "mine", max_images=30, enlarge=True).train.sha256


def test_broken_images_are_named_and_left_out_up_to_a_share(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    paths = save_images(folder, 40, suffix=".jpg", size=(64, 64))
    paths[3].write_bytes(paths[3].read_bytes()[:-400])
    paths[5].write_bytes(b"no image at all")
    message = r"2 of 40 images cannot be used, more than max_broken=0.01 allows: 2 images are broken: "
    with pytest.raises(UsageError, match=message + r"003.jpg \(.*truncated.*\), 005.jpg \(not an image\)"):
        load(folder, max_broken=0.01)
    split = load(folder, max_broken=0.05)
    assert len(split.train) + len(split.held_out) == 38
    assert "003.jpg" in split.notes[0]
    assert split.facts()["notes"] == list(split.notes)


def test_small_images_are_left_out_unless_they_may_be_enlarged(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    save_images(folder, 20)
    save_images(folder, 4, start=20, size=(12, 30))
    message = r"4 images are smaller than the network's 16x16: 020.png \(it has 12x30 pixels\), .* and 1 more. Train a "
    with pytest.raises(UsageError, match=message + "smaller network, or --set enlarge=true"):
        load(folder)
    split = load(folder, enlarge=True)
    assert len(split.train) + len(split.held_out) == 24


def test_a_bomb_is_a_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    save_images(folder, 25)
    Image.new("1", (2000, 1000)).save(folder / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_500_000)  # 1.3 times: Pillow itself would only warn
    split = load(folder)
    assert "bomb.png (more pixels than any photograph has" in split.notes[0]


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 19)
    with pytest.raises(UsageError, match="there are 19 images; training needs at least 20"):
        load(tmp_path / "mine")


@pytest.mark.parametrize("content", [[], ["notes.txt", "clip.mp4"]])
def test_a_folder_without_images_is_refused(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path} holds no images")):
        load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_refused(tmp_path: Path) -> None:
    save_images(tmp_path / "mine" / "locked", 20)
    (tmp_path / "mine" / "locked").chmod(0)
    with pytest.raises(UsageError, match=r"cannot read .*locked: Permission denied"):
        load(tmp_path / "mine")


def test_labels_must_be_the_classes_of_the_network(tmp_path: Path) -> None:
    save_images(tmp_path / "flat", 20)
    with pytest.raises(UsageError, match=r"num_classes is 3, but the data set .* has no labels. Put the"):
        load(tmp_path / "flat", num_classes=3)
    save_images(tmp_path / "one" / "only", 20)
    with pytest.raises(UsageError, match=r"num_classes is 2, but the data set .* has no labels"):
        load(tmp_path / "one", num_classes=2)
    assert load(tmp_path / "one").train.labels is None


def test_a_class_without_images_to_train_on_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "gap.npz", images=np.random.default_rng(0).integers(0, 255, (40, 16, 16), np.uint8),
             labels=np.arange(40) % 2 * 2)  # fmt: skip
    with pytest.raises(UsageError, match=r"no image to train on of the class '1' \(1 of 3 classes\)"):
        load(tmp_path / "gap.npz", shape=(16, 16, 1), num_classes=3)


def test_the_network_must_be_grey_or_rgb(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 20)
    with pytest.raises(UsageError, match="makes 4 channels; images have 1"):
        load(tmp_path / "mine", shape=(16, 16, 4))
    with pytest.raises(UsageError, match=r"digits are grey and square. Change the network's image size and channels"):
        load_dataset("digits", image_shape=(16, 16, 3), num_classes=0)


def test_prepared_images_are_read_again_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = save_images(tmp_path / "mine", 40)
    first = load(tmp_path / "mine")
    monkeypatch.setattr(sys.modules["training.data.prepare"], "fit", None)  # decoding now would fail
    again = load(tmp_path / "mine")
    assert (again.train.sha256, again.held_out.sha256) == (first.train.sha256, first.held_out.sha256)
    assert torch.equal(again.train.images, first.train.images)
    monkeypatch.undo()
    monkeypatch.setenv("GANVAS_DATA", str(tmp_path / "other"))
    photograph(999).save(paths[0])
    assert load(tmp_path / "mine").train.sha256 != first.train.sha256 or (
        load(tmp_path / "mine").held_out.sha256 != first.held_out.sha256
    )


def test_known_hash_is_that_of_the_images(tmp_path: Path) -> None:
    save_images(tmp_path / "mine" / "a", 20)
    save_images(tmp_path / "mine" / "b", 20, start=50)
    train = load(tmp_path / "mine").train
    assert train.known_sha256 is not None
    assert train.subset(torch.arange(len(train))).sha256 == train.known_sha256


def test_damaged_prepared_images_are_made_again(tmp_path: Path, data_home: Path) -> None:
    save_images(tmp_path / "mine", 40)
    expected = load(tmp_path / "mine").train.sha256
    (array,) = (data_home / "prepared").glob("*/train.npy")
    array.write_bytes(array.read_bytes()[:1000])
    split = load(tmp_path / "mine")
    assert split.train.subset(torch.arange(36)).sha256 == expected


def test_oldest_prepared_images_give_way(tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_images(tmp_path / "mine", 40)
    monkeypatch.setattr(cache, "MAX_BYTES", 6 * 40 * 16 * 16 * 3)
    for share in (0.1, 0.2, 0.3, 0.4, 0.1, 0.5):
        load(tmp_path / "mine", held_out_share=share)
        for number, folder in enumerate(
            sorted((data_home / "prepared").iterdir(), key=lambda path: path.stat().st_mtime)
        ):
            assert number < 5, folder
    total = sum(path.stat().st_size for path in (data_home / "prepared").glob("*/*.npy"))
    assert 0 < total <= cache.MAX_BYTES


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, data_home: Path) -> None:
    save_images(tmp_path / "mine", 40)
    with (
        full_disk(),
        pytest.raises(UserError, match=r"cannot write the prepared images in .*Make room, or set GANVAS_DATA"),
    ):
        load(tmp_path / "mine")
    assert [path.name for path in (data_home / "prepared").iterdir()] == [".lock"]


def test_too_little_room_is_said_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_images(tmp_path / "mine", 40)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"has 0 MiB free, and the prepared images need 0. Make room, --set max_images"):
        load(tmp_path / "mine")


def test_licence_is_what_the_user_says(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 20)
    split = load(tmp_path / "mine", data_license="CC-BY-4.0, me")
    facts = split.facts()
    assert (facts["license"], facts["size"], facts["held_out_size"]) == ("CC-BY-4.0, me", 18, 2)
    assert facts["sha256"] == split.train.sha256


def test_preparing_leaves_the_filters_of_warnings(tmp_path: Path) -> None:
    save_images(tmp_path / "mine", 20)
    before = list(warnings.filters)
    load(tmp_path / "mine")
    assert warnings.filters == before


@pytest.mark.parametrize(("options", "message"), [({"background": "nocolor"}, "must be a color such as"),
                                                  ({"held_out_share": 0.0}, "greater than 0")])  # fmt: skip
def test_options_have_limits(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataOptions(**options)  # type: ignore[arg-type]
