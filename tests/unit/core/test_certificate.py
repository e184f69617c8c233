"""The certificate: strict parsing, and the hashes of its files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganvas_core.certificate import (
    FORMAT,
    Certificate,
    CertificateError,
    FloatParity,
    Golden,
    ModelFile,
    PixelParity,
    file_sha256,
)
from ganvas_core.noise import ALGORITHM

MODEL = b"the graph"
IMAGE = b"the image"


def certificate(**changes: Any) -> Certificate:
    golden = Golden(seed=2**64 - 1, truncation=0.5, label=3, sha256="ab")
    model = ModelFile(
        sha256=hashlib.sha256(MODEL).hexdigest(),
        num_bytes=len(MODEL),
        precision="fp16",
        fp32_nodes={"/tanh": "range"},
        pixel_parity=PixelParity(max_levels=1, mean_levels=0.5, worst_psnr_db=None),
        golden=(golden,),
    )
    whole = Certificate(
        format=FORMAT,
        name="digits",
        version=1,
        role="sample",
        roles=("sample", "decode"),
        family="gan",
        height=32,
        width=32,
        channels=1,
        noise=ALGORITHM,
        latent_shape=(64,),
        labels=("0", "1"),
        truncation="latent",
        truncation_max=1.5,
        max_batch_size=16,
        opset=18,
        files={"model.onnx": model},
        attachments={"golden.png": hashlib.sha256(IMAGE).hexdigest()},
        golden_atol_levels=2,
        float_parity=FloatParity(atol=1e-5, max_abs=1e-6),
        num_parity_seeds=64,
        parity_batches=(1, 2, 3, 7, 16),
        batch_invariant=True,
        created="2026-01-01T00:00:00+00:00",
        tools={"onnx": "1"},
        source={"kimg": 100, "metrics": {"accuracy": 0.9}},
    )
    return dataclasses.replace(whole, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(MODEL)
    (tmp_path / "golden.png").write_bytes(IMAGE)
    (tmp_path / "certificate.json").write_text(certificate().to_json())
    return tmp_path


def edited(**changes: Any) -> str:
    data = json.loads(certificate().to_json())
    data.update(changes)
    return json.dumps(data)


def test_certificate_round_trips_through_json() -> None:
    assert Certificate.from_json(certificate().to_json()) == certificate()


@given(st.integers(0, 2**64 - 1), st.floats(0, 2), st.none() | st.integers(0, 9))
def test_golden_seed_round_trips_with_all_its_bits(seed: int, truncation: float, label: int | None) -> None:
    golden = Golden(seed=seed, truncation=truncation, label=label, sha256="00")
    file = dataclasses.replace(certificate().files["model.onnx"], golden=(golden,))
    whole = certificate(files={"model.onnx": file})
    assert Certificate.from_json(whole.to_json()).files["model.onnx"].golden == (golden,)


def encoder(**changes: Any) -> Certificate:
    """An encoder's, with golden posteriors."""
    file = dataclasses.replace(
        certificate().files["model.onnx"], pixel_parity=None, float_parity=FloatParity(atol=1e-5, max_abs=1e-6)
    )
    file = dataclasses.replace(file, **({"golden_atol": 1e-4} | changes))
    return certificate(role="encode", roles=("sample", "decode", "encode"), files={"model.onnx": file})


def test_golden_posteriors_round_trip_with_their_bound() -> None:
    read = Certificate.from_json(encoder().to_json())
    assert read == encoder()
    (file,) = read.files.values()
    assert (len(file.golden), file.golden_atol) == (1, 1e-4)


@pytest.mark.parametrize("atol", [None, -1e-9, float("inf"), float("nan")])
def test_golden_posteriors_need_a_bound(atol: float | None) -> None:
    with pytest.raises(CertificateError, match="golden_atol must be a bound, of an encoder; got"):
        encoder(golden_atol=atol)


@pytest.mark.parametrize("written", [2, 3, 4])
def test_an_encoder_of_an_earlier_format_has_no_golden_posteriors(written: int) -> None:
    old = json.loads(encoder(golden=()).to_json()) | {"format": written}
    del old["files"]["model.onnx"]["golden_atol"]
    read = Certificate.from_json(json.dumps(old))
    assert read.format == FORMAT
    (file,) = read.files.values()
    assert (file.golden, file.golden_atol) == ((), None)


@pytest.mark.parametrize(
    ("role", "inputs", "outputs"),
    [
        ("sample", {"seed", "truncation", "label"}, {"image": (32, 32, 1)}),
        ("decode", {"latent", "label"}, {"image": (32, 32, 1)}),
        ("encode", {"image"}, {"mean": (64,), "logvar": (64,)}),
    ],
)
def test_a_certificate_says_what_its_model_takes_and_gives(
    role: Any, inputs: set[str], outputs: dict[str, tuple[int, ...]]
) -> None:
    found = certificate(role=role, roles=(role,), files={}).interface
    assert {tensor.name for tensor in found.inputs} == inputs
    assert {tensor.name: tensor.dims for tensor in found.outputs} == outputs


def test_read_finds_the_certificate_of_a_folder(folder: Path) -> None:
    assert Certificate.read(folder) == certificate()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no integer field 'format'"),
        ('{"format": "1"}', "no integer field 'format'"),
        (edited(format=6), "has format 6; this release reads up to 5. Upgrade Ganvas"),
        (edited(noise="philox"), r"exported with the noise 'philox' \(certificate format 5\).*Export it again"),
        (edited(roles=["decode"]), "roles must be a list with 'sample'"),
        (edited(extra=1), "unknown fields: extra"),
        ('{"format": 2}', "missing"),
        (edited(height="32"), r"certificate.json.height must be <class 'int'>; got '32'"),
        (edited(height=True), "height must be"),
        (edited(height=0), "height must be at least 1; got 0"),
        (edited(latent_shape=[4, 0]), r"latent_shape must be dimensions of at least 1; got \(4, 0\)"),
        (edited(truncation_max=float("nan")), "truncation_max must be positive; got nan"),
        (edited(role="router"), "role must be"),
        (edited(labels="01"), "labels must be"),
        (edited(files={"model.onnx": 3}), r"files\['model.onnx'\] must be an object; got 3"),
        (edited(attachments={"../../secret": "00"}), "file name must be a plain name without folders; got '../../sec"),
        (edited(attachments={"..": "00"}), r"file name must be a plain name without folders; got '\.\.'"),
        (edited(attachments={"/etc/passwd": "00"}), "file name must be a plain name"),
    ],
)
def test_malformed_certificate_is_rejected_with_the_place(text: str, message: str) -> None:
    with pytest.raises(CertificateError, match=message):
        Certificate.from_json(text)


def test_a_certificate_of_format_2_says_that_its_figures_are_of_float32() -> None:
    old = json.loads(certificate().to_json()) | {"format": 2}
    del old["no_fp16"], old["pinned_batch"], old["float_parity"]["reference"], old["float_parity"]["arithmetic"]
    for file in old["files"].values():
        del file["rescaled"], file["activations"]
        for field in ("arithmetic", "num_images", "worst"):
            del file["pixel_parity"][field]
    read = Certificate.from_json(json.dumps(old))
    assert read == certificate()
    pixels = read.files["model.onnx"].pixel_parity
    assert pixels is not None
    assert (pixels.arithmetic, read.float_parity.reference) == ("float32", "float32")


def test_a_certificate_of_format_1_is_read_as_the_newest(tmp_path: Path) -> None:
    """Written by the release before roles, latent_shape and the noise's name."""
    old = json.loads(certificate().to_json())
    old |= {"format": 1, "role": "sampler", "family": "vae", "latent_dim": 64}
    for name in ("roles", "noise", "latent_shape"):
        del old[name]
    assert Certificate.from_json(json.dumps(old)) == certificate(family="vae", roles=("sample", "decode", "encode"))


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        ({"seed": 2**64, "truncation": 1.0}, r"golden seed must be within \[0, 2\^64\)"),
        ({"seed": -1, "truncation": 1.0}, "golden seed must be"),
        ({"seed": 0, "truncation": float("inf")}, "golden truncation must be finite; got inf"),
    ],
)
def test_impossible_golden_seed_is_rejected(golden: dict[str, Any], message: str) -> None:
    data = json.loads(certificate().to_json())
    data["files"]["model.onnx"]["golden"] = [golden | {"label": None, "sha256": "00"}]
    with pytest.raises(CertificateError, match=message):
        Certificate.from_json(json.dumps(data))


def test_check_files_accepts_what_was_certified(folder: Path) -> None:
    certificate().check_files(folder)
    assert file_sha256(folder / "model.onnx") == hashlib.sha256(MODEL).hexdigest()


@pytest.mark.parametrize("name", ["model.onnx", "golden.png"])
def test_check_files_names_a_file_that_was_changed(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[0] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(CertificateError, match=f"{name} has SHA-256 .* was changed or damaged. Export"):
        certificate().check_files(folder)


def test_check_files_names_a_file_that_is_missing(folder: Path) -> None:
    (folder / "golden.png").unlink()
    with pytest.raises(CertificateError, match=r"golden\.png is missing, but its certificate lists it"):
        certificate().check_files(folder)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_read_names_a_certificate_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "certificate.json").write_bytes(content)
    with pytest.raises(CertificateError, match=r"cannot read .*certificate\.json"):
        Certificate.read(tmp_path)


@pytest.mark.parametrize("truncation_max", [0.0, -0.5, float("inf")])
def test_truncation_max_must_be_positive_and_finite(truncation_max: float) -> None:
    with pytest.raises(CertificateError, match="truncation_max must be positive"):
        certificate(truncation_max=truncation_max)


def test_the_smallest_possible_values_are_accepted() -> None:
    smallest = certificate(truncation_max=0.25, latent_shape=(1,), height=1, width=1, channels=1, max_batch_size=1)
    assert Certificate.from_json(smallest.to_json()) == smallest


@pytest.mark.parametrize("latent_shape", [(), (0,), (2, -1)])
def test_latent_shape_must_have_dimensions_of_at_least_1(latent_shape: tuple[int, ...]) -> None:
    with pytest.raises(CertificateError, match="latent_shape must be dimensions of at least 1"):
        certificate(latent_shape=latent_shape)


def test_a_certificate_cannot_be_changed() -> None:
    whole = certificate()
    (entry,) = whole.files.values()
    parts: list[Any] = [whole, whole.float_parity, entry, entry.golden[0], entry.pixel_parity]
    for part in parts:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


@pytest.mark.parametrize("field_name", ["version", "height", "width", "channels", "max_batch_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_number_below_1_is_rejected_with_its_field(field_name: str, value: int) -> None:
    with pytest.raises(CertificateError, match=rf"^{field_name} must be at least 1; got {value}\.$"):
        certificate(**{field_name: value})


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_golden_seed_may_be_either_end_of_64_bits(seed: int) -> None:
    assert Golden(seed=seed, truncation=0.0, label=None, sha256="").seed == seed


@pytest.mark.parametrize("truncation", [float("nan"), float("inf"), float("-inf")])
def test_golden_truncation_must_be_finite(truncation: float) -> None:
    with pytest.raises(CertificateError, match=r"^golden truncation must be finite; got"):
        Golden(seed=0, truncation=truncation, label=None, sha256="")


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "model.fp16.onnx"])
def test_plain_file_name_is_accepted(name: str) -> None:
    assert certificate(attachments={name: "00"}).attachments == {name: "00"}


@pytest.mark.parametrize("name", ["", ".", ".hidden", "-a", "_a", "a/b", "a\\b", "a b", "a\n", "é"])
def test_file_name_that_is_not_plain_is_rejected(name: str) -> None:
    with pytest.raises(CertificateError, match="file name must be a plain name without folders"):
        certificate(attachments={name: "00"})


def test_file_name_of_a_graph_must_be_plain_too() -> None:
    with pytest.raises(CertificateError, match="file name must be a plain name without folders"):
        certificate(files={"../model.onnx": certificate().files["model.onnx"]})


def test_message_repeats_a_long_value_cut() -> None:
    with pytest.raises(CertificateError, match=r"got '/a{78}\.$"):
        certificate(attachments={"/" + "a" * 200: "00"})


def test_role_must_be_among_the_roles() -> None:
    with pytest.raises(CertificateError, match=r"^roles must be a list with 'encode', the certificate's role; got"):
        certificate(role="encode")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["0", 1]}, r"labels\[1\] must be <class 'str'>; got 1\.$"),
        ({"tools": {"onnx": 1}}, r"tools\['onnx'\] must be <class 'str'>; got 1\.$"),
        ({"batch_invariant": 1}, "batch_invariant must be <class 'bool'>; got 1"),
        ({"version": 1.0}, r"version must be <class 'int'>; got 1\.0"),
        ({"truncation_max": True}, "truncation_max must be <class 'float'>; got True"),
        ({"truncation": "both"}, r"truncation must be .*; got 'both'"),
        ({"float_parity": {"atol": 0.1}}, r"certificate\.json\.float_parity: .*max_abs"),
        ({"float_parity": {"atol": 1, "max_abs": 0, "b": 0, "a": 0}}, "float_parity has unknown fields: a, b"),
        ({"float_parity": None}, "float_parity must be an object; got None"),
        ({"name": None}, "name must be <class 'str'>; got None"),
    ],
)
def test_wrong_type_is_rejected_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CertificateError, match=message):
        Certificate.from_json(edited(**changes))


def test_whole_number_is_read_as_a_float_where_one_belongs() -> None:
    read = Certificate.from_json(edited(truncation_max=1))
    assert (read.truncation_max, type(read.truncation_max)) == (1.0, float)


def test_source_holds_any_json() -> None:
    source = {"metrics": {"accuracy": 0.9}, "notes": [1, None, "a"]}
    assert Certificate.from_json(edited(source=source)).source == source


def test_missing_field_is_named() -> None:
    data = json.loads(certificate().to_json())
    del data["opset"]
    with pytest.raises(CertificateError, match=r"certificate\.json: .*'opset'"):
        Certificate.from_json(json.dumps(data))


def test_json_is_indented_and_ends_in_a_new_line() -> None:
    text = certificate().to_json()
    assert text.startswith(f'{{\n  "format": {FORMAT},\n')
    assert text.endswith("\n}\n")


@pytest.mark.parametrize("family", ["gan", "other"])
def test_a_certificate_of_format_1_has_an_encoder_in_a_vae_alone(family: str) -> None:
    old = json.loads(certificate(family=family).to_json())
    old |= {"format": 1, "role": "decode", "latent_dim": 7}
    for name in ("roles", "noise", "latent_shape", "truncation"):
        del old[name]
    read = Certificate.from_json(json.dumps(old))
    assert read == certificate(family=family, role="decode", roles=("sample", "decode"), latent_shape=(7,))


def test_a_certificate_of_format_1_without_latent_dim_is_rejected() -> None:
    old = json.loads(certificate().to_json())
    del old["latent_shape"]
    with pytest.raises(CertificateError, match=r"latent_shape\[0\] must be <class 'int'>; got None"):
        Certificate.from_json(json.dumps(old | {"format": 1}))


def test_check_files_ignores_files_that_are_not_listed(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    certificate().check_files(folder)


def test_check_files_does_not_take_a_folder_for_a_file(folder: Path) -> None:
    (folder / "golden.png").unlink()
    (folder / "golden.png").mkdir()
    with pytest.raises(CertificateError, match=r"golden\.png is missing"):
        certificate().check_files(folder)
