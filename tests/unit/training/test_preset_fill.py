"""A preset for any folder: what it leaves to the data is filled in from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ganvas_core.cli import UsageError
from tests.support.images import save_images
from training.loop import train
from training.presets import load_preset
from training.run.checkpoint import load_model
from training.run.folder import create


def network_of(data: Path | str, **changes: object) -> tuple[int, int, int]:
    """Image size, channels and classes that the preset `folder` takes for the data on a CPU."""
    network = load_preset("folder", {"data": str(data), "device": "cpu", **changes}).network
    height, _, channels = network.image_shape
    return height, channels, network.num_classes


def test_folder_of_mixed_images_gives_size_channels_and_classes(tmp_path: Path) -> None:
    save_images(tmp_path / "cats", 5, size=(80, 70))
    save_images(tmp_path / "dogs", 5, size=(300, 64), mode="L")
    assert network_of(tmp_path) == (64, 3, 2)


def test_size_is_what_most_images_reach(tmp_path: Path) -> None:
    save_images(tmp_path, 10, size=(40, 60))
    assert network_of(tmp_path) == (32, 3, 0)


def test_grey_images_in_one_folder_are_grey_and_have_no_classes(tmp_path: Path) -> None:
    save_images(tmp_path / "scans", 4, size=(64, 64), mode="L")
    (tmp_path / "scans" / "broken.png").write_bytes(b"no image")
    assert network_of(tmp_path) == (64, 1, 0)


def test_image_of_more_pixels_than_memory_holds_is_passed_over(tmp_path: Path) -> None:
    save_images(tmp_path, 5, size=(64, 64))
    Image.new("1", (20_000, 10_000)).save(tmp_path / "panorama.png")
    assert network_of(tmp_path) == (64, 3, 0)


def test_tiny_images_get_the_smallest_size(tmp_path: Path) -> None:
    save_images(tmp_path, 3, size=(20, 20))
    assert network_of(tmp_path)[0] == 32


def test_what_is_set_is_not_filled_in(tmp_path: Path) -> None:
    save_images(tmp_path / "a", 3, size=(80, 80))
    save_images(tmp_path / "b", 3, size=(80, 80))
    changes = {"network.image_size": 16, "network.num_classes": 0, "network.image_channels": 1}
    assert network_of(tmp_path, **changes) == (16, 1, 0)


def test_data_sets_that_come_along_need_no_looking_at() -> None:
    assert network_of("digits") == (32, 1, 10)
    assert network_of("patches") == (64, 3, 2)


def test_data_must_be_named() -> None:
    with pytest.raises(UsageError, match="--data is missing: name a data set"):
        load_preset("folder")


def test_data_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="neither a data set nor a file or folder '/nowhere'"):
        network_of("/nowhere")


@pytest.mark.parametrize(("channels", "num_classes"), [(3, 7), (3, 0), (1, 7)])
def test_folder_preset_trains_on_color_and_any_number_of_classes(
    tmp_path: Path, channels: int, num_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unconditional, RGB and seven classes raised three exceptions from deep inside."""
    monkeypatch.setenv("GANVAS_DATA", str(tmp_path / "kept"))
    for number in range(max(num_classes, 1)):
        folder = tmp_path / "images" / (f"class {number}" if num_classes else "")
        save_images(
            folder, 6 if num_classes else 24, start=10 * number, size=(20, 17), mode="RGB" if channels == 3 else "L"
        )
    sizes = {"network.image_size": 8, "network.base_channels": 4, "network.latent_dim": 4, "discriminator_channels": 4}
    run = {"total_kimg": 0.03, "batch_size": 6, "device": "cpu", "data": str(tmp_path / "images")}
    config = load_preset("folder", sizes | run)
    create(tmp_path / "run", config, overwrite=False)
    assert train(config, tmp_path / "run").finished
    model = load_model(tmp_path / "run" / "checkpoint")
    assert (model.info.image.channels, len(model.info.labels)) == (channels, num_classes)
    assert model.info.labels == tuple(f"class {number}" for number in range(num_classes))
