from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.support.disk import full_disk
from tests.support.training import TINY, save_tiny, tiny_info, tiny_network
from training.families import FAMILIES
from training.run.checkpoint import CheckpointError, load_model, save_model


def edit_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the weights and remove their hash, so that the weights themselves are checked."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    change(tensors)
    safetensors.torch.save_file(tensors, path)
    edit_json(folder, lambda record: record.pop("weights_sha256"))


@pytest.mark.parametrize("family", ["dcgan", "vae", "mlp-vae"])
@pytest.mark.parametrize("num_classes", [0, 10])
def test_checkpoint_round_trip_gives_the_same_model(tmp_path: Path, family: str, num_classes: int) -> None:
    network = tiny_network(family, dataclasses.replace(TINY, num_classes=num_classes))
    info = tiny_info(family, network=network, labels=tuple(str(i) for i in range(num_classes)))
    generator, encoder = FAMILIES[info.family].build(network)
    generator(torch.randn(8, 4), torch.arange(8)) if num_classes else generator(torch.randn(8, 4))
    save_model(tmp_path / "run" / "checkpoint", info, generator, encoder)

    loaded = load_model(tmp_path / "run" / "checkpoint")

    z, x = torch.randn(3, 4), torch.rand(3, 1, 8, 8)
    inputs = (z, torch.arange(3)) if num_classes else (z,)
    assert loaded.info == info
    assert not loaded.generator.training
    assert torch.equal(loaded.generator(*inputs), generator.eval()(*inputs))
    assert (loaded.encoder is None) == (family == "dcgan")
    if loaded.encoder is not None and encoder is not None:
        assert torch.equal(loaded.encoder(x)[0], encoder.eval()(x)[0])


@pytest.mark.parametrize(("old", "family"), [("gan", "dcgan"), ("vae", "vae")])
def test_load_model_reads_a_checkpoint_of_format_1(tmp_path: Path, old: str, family: str) -> None:
    save_tiny(tmp_path / "c", family, layers="dcgan")

    def make_old(record: dict[str, Any]) -> None:
        record.update(format=1, family=old)
        for added in ("body", "num_blocks", "likelihood"):
            record["network"].pop(added, None)

    edit_json(tmp_path / "c", make_old)
    model = load_model(tmp_path / "c")
    assert model.info.family == family
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.generator.modules())


def test_load_model_leaves_the_global_random_stream_alone(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c")
    before = torch.get_rng_state()
    load_model(tmp_path / "c")
    assert torch.equal(torch.get_rng_state(), before)


def test_load_model_says_how_to_train_when_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere does not exist. Train one first: ./ganvas train"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_load_model_names_the_file_that_is_missing(tmp_path: Path, name: str) -> None:
    save_tiny(tmp_path / "c")
    (tmp_path / "c" / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_model(tmp_path / "c")


@pytest.mark.parametrize("keep", [0, 4, 100, 3000])
def test_load_model_rejects_truncated_weights(tmp_path: Path, keep: int) -> None:
    save_tiny(tmp_path / "c")
    path = tmp_path / "c" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_model(tmp_path / "c")


def test_load_model_rejects_weights_with_one_bit_flipped(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c")
    path = tmp_path / "c" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="changed or damaged"):
        load_model(tmp_path / "c")


@pytest.mark.parametrize("zipped", [False, True])
def test_load_model_rejects_a_pickle_in_place_of_the_weights(tmp_path: Path, zipped: bool) -> None:
    save_tiny(tmp_path / "c")
    path = tmp_path / "c" / "model.safetensors"
    if zipped:
        torch.save({"w": torch.zeros(2)}, path)
    else:
        path.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(CheckpointError, match="is a pickle, which Ganvas never reads"):
        load_model(tmp_path / "c")


def test_load_model_rejects_a_pickle_in_place_of_the_folder(tmp_path: Path) -> None:
    torch.save(FAMILIES["dcgan"].build(TINY)[0].state_dict(), tmp_path / "generator.pt")
    with pytest.raises(CheckpointError, match=r"generator.pt is a pickle, not a checkpoint folder"):
        load_model(tmp_path / "generator.pt")


def test_load_model_rejects_a_newer_format(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c")
    edit_json(tmp_path / "c", lambda record: record.update(format=3, unheard_of=True))
    with pytest.raises(CheckpointError, match="has format 3; this release reads up to 2"):
        load_model(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("format"), "no integer field 'format'"),
        (lambda r: r.pop("kimg"), "kimg is missing"),
        (lambda r: r.update(colour="red"), "colour is unknown"),
        (lambda r: r["network"].update(latent_dim="4"), "network latent_dim must be a valid integer; got '4'"),
        (lambda r: r["network"].update(base_channels=10**9), "network base_channels must be less than"),
        (
            lambda r: r["network"].update(image_size=13),
            r"image_size must be 4, 5, 6 or 7 times a power of two, .*; got 13",
        ),
        (lambda r: r["image"].update(height=16), "image must be 8x8x1"),
        (lambda r: r["image"].update(range=[0.0, 1.0]), r"image.range of a dcgan must be \(-1.0, 1.0\)"),
        (lambda r: r.update(labels=["a"]), "labels must have network.num_classes = 10 entries"),
        (lambda r: r.update(family="diffusion"), "family must be 'dcgan', .*; got 'diffusion'"),
    ],
)
def test_load_model_names_the_field_that_is_wrong(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    save_tiny(tmp_path / "c")
    edit_json(tmp_path / "c", change)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "c")


@pytest.mark.parametrize("text", ["", "{", "[]", '"model"', "\x00"])
def test_load_model_rejects_what_is_no_json_object(tmp_path: Path, text: str) -> None:
    save_tiny(tmp_path / "c")
    (tmp_path / "c" / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.json (cannot be read as JSON|has no integer field)"):
        load_model(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("generator.to_image.bias"), "lacks the tensor generator.to_image.bias"),
        (lambda t: t.update({"generator.extra": torch.zeros(1)}), "unknown tensor generator.extra"),
        (lambda t: t.update({"generator.to_image.bias": torch.zeros(2)}), r"torch.float32 \[1\] .* got .* \[2\]"),
        (lambda t: t.update({"generator.to_image.bias": torch.zeros(1).half()}), "got torch.float16"),
        (lambda t: t["generator.to_image.bias"].fill_(float("nan")), "holds NaN or infinite weights"),
    ],
)
def test_load_model_names_the_tensor_that_does_not_fit(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    save_tiny(tmp_path / "c")
    edit_weights(tmp_path / "c", change)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "c")


def test_save_model_rejects_weights_that_are_not_finite(tmp_path: Path) -> None:
    generator, _ = FAMILIES["dcgan"].build(TINY)
    generator.get_parameter("to_image.bias").data.fill_(float("inf"))
    with pytest.raises(CheckpointError, match=r"to_image\.bias holds NaN or infinite"):
        save_model(tmp_path / "c", tiny_info("dcgan"), generator)
    assert list(tmp_path.iterdir()) == []


def test_save_model_keeps_the_old_checkpoint_when_the_disk_is_full(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c", "dcgan")
    before = load_model(tmp_path / "c")
    decoder, encoder = FAMILIES["vae"].build(tiny_network("vae"))
    with full_disk(), pytest.raises(CheckpointError, match=r"cannot save the checkpoint in .* is whole"):
        save_model(tmp_path / "c", tiny_info("vae"), decoder, encoder)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert load_model(tmp_path / "c").sha256 == before.sha256


def test_save_model_replaces_the_old_checkpoint(tmp_path: Path) -> None:
    save_tiny(tmp_path / "c", "dcgan")
    (tmp_path / ".c.old").mkdir()
    (tmp_path / ".c.old" / "left by a crash").touch()
    save_tiny(tmp_path / "c", "vae")
    assert load_model(tmp_path / "c").info.family == "vae"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
