"""One export end to end: the files in the repository and the certificate."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from tritonclient.grpc import model_config_pb2 as triton

from export import pipeline
from export.adapters.checkpoint import load_checkpoint
from export.errors import GateError, InputError
from export.graph import guards
from export.graph.build import Networks
from export.options import ExportOptions
from export.pipeline import export_model
from export.proof import parity
from export.publish import onnx_file
from ganvas_core import noise
from ganvas_core.certificate import Certificate, Golden
from ganvas_core.cli import describe_validation_error, options_of
from ganvas_core.description import Description, described_versions
from tests.unit.export.conftest import Exported, options


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_descriptions(config: triton.ModelConfig, sampler: Certificate, *, versions: int) -> None:
    """Every version is described as the file that this configuration serves."""
    texts = described_versions({key: value.string_value for key, value in config.parameters.items()})
    assert sorted(texts) == [str(version + 1) for version in range(versions)]
    for text in texts.values():
        read = Description.from_json(text, "it")
        assert read.digest == sampler.files[config.default_model_filename].sha256
        assert (read.labels, read.latent_shape, read.roles) == (sampler.labels, sampler.latent_shape, sampler.roles)
        assert read.image == (sampler.height, sampler.width, sampler.channels)


def test_export_writes_the_entry_of_the_design(gan: Exported) -> None:
    configs = {"config.pbtxt", *(f"configs/{name}.pbtxt" for name in ("cpu", "gpu", "gpu-fp16", "tensorrt"))}
    version = {"1/model.onnx", "1/model.fp16.onnx", "1/certificate.json"}
    assert set(tree(gan.repository / "digits")) == configs | version | {"1/golden.png", "1/report.html"}
    assert set(tree(gan.repository / "digits-decode")) == configs | version
    assert {entry.name for entry in gan.repository.iterdir()} == {"digits", "digits-decode"}
    assert {entry.name for entry in gan.repository.parent.iterdir()} == {gan.repository.name}


def test_export_of_a_vae_has_an_encoder(vae: Exported) -> None:
    assert {entry.name for entry in vae.repository.iterdir()} == {"digits", "digits-decode", "digits-encode"}
    certificate = Certificate.read(vae.repository / "digits-encode" / "1")
    assert certificate.role == "encode"
    assert 0 < certificate.float_parity.max_abs < 1e-5
    assert certificate.files["model.onnx"].pixel_parity is None
    beside = {name for name in tree(vae.repository / "digits-encode") if name.startswith("1/golden")}
    assert beside == {"1/golden.npy", "1/golden.png"}


@pytest.mark.parametrize("file_name", ["model.onnx", "model.fp16.onnx"])
def test_golden_posteriors_come_out_again_of_the_images_beside_the_encoder(vae: Exported, file_name: str) -> None:
    folder = vae.repository / "digits-encode" / "1"
    file = Certificate.read(folder).files[file_name]
    golden = vae.result.certificate.files[file_name].golden
    assert [(entry.seed, entry.truncation, entry.label) for entry in file.golden] == [
        (entry.seed, entry.truncation, entry.label) for entry in golden
    ]
    assert (folder / "golden.png").read_bytes() == (vae.result.folder / "golden.png").read_bytes()
    with Image.open(folder / "golden.png") as image:
        images = np.asarray(image).reshape(len(golden), 1, 16, 16, 1)
    session = onnxruntime.InferenceSession(folder / file_name, providers=["CPUExecutionProvider"])
    stored = np.load(folder / "golden.npy", allow_pickle=False)
    assert (stored.shape, stored.dtype) == ((4, 2, 6), np.float32)
    for image, entry, values in zip(images, file.golden, stored, strict=True):
        mean, logvar = session.run(["mean", "logvar"], {"image": image})
        assert hashlib.sha256(mean.tobytes() + logvar.tobytes()).hexdigest() == entry.sha256
        if file_name == "model.onnx":
            assert values.tobytes() == mean.tobytes() + logvar.tobytes()
        assert file.golden_atol is not None
        np.testing.assert_allclose(values, np.concatenate([mean, logvar]), rtol=0, atol=file.golden_atol)


def test_bound_of_golden_posteriors_is_that_of_their_file(vae: Exported) -> None:
    files = Certificate.read(vae.repository / "digits-encode" / "1").files
    (fp32, half), parity = (files["model.onnx"], files["model.fp16.onnx"]), files["model.onnx"].float_parity
    assert parity is not None
    assert fp32.golden_atol == 10 * parity.atol < 1e-3
    assert half.golden_atol == 0.05 + 10 * parity.atol
    assert {file.golden_atol for file in vae.result.certificate.files.values()} == {None}


@pytest.mark.parametrize(("which", "name"), [("gan", "digits"), ("gan", "digits-decode"), ("vae", "digits-encode")])
def test_certificate_vouches_for_every_file(request: pytest.FixtureRequest, which: str, name: str) -> None:
    folder = request.getfixturevalue(which).repository / name / "1"
    certificate = Certificate.read(folder)
    certificate.check_files(folder)
    assert {*certificate.files, *certificate.attachments, "certificate.json"} == {f.name for f in folder.iterdir()}


def test_certificate_says_what_the_model_is_and_where_it_came_from(gan: Exported) -> None:
    certificate = gan.result.certificate
    assert certificate == Certificate.read(gan.result.folder)
    assert (certificate.name, certificate.version, certificate.role) == ("digits", 1, "sample")
    assert (certificate.height, certificate.width, certificate.channels) == (16, 16, 3)
    assert (certificate.latent_shape, certificate.labels) == ((6,), ("0", "1", "2"))
    assert (certificate.max_batch_size, certificate.truncation_max, certificate.opset) == (5, 1.5, 18)
    assert (certificate.num_parity_seeds, certificate.parity_batches) == (9, (1, 2, 3, 5))
    assert certificate.batch_invariant
    assert set(certificate.tools) == {"python", "torch", "onnx", "onnxruntime", "numpy"}
    weights = (gan.checkpoint / "model.safetensors").read_bytes()
    assert certificate.source["checkpoint_sha256"] == hashlib.sha256(weights).hexdigest()


def golden_feeds(
    golden: Golden, latent_shape: tuple[int, ...]
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    latent = noise.latents([golden.seed], latent_shape) * np.float32(golden.truncation)
    return {
        "seed": np.array([[golden.seed]], np.uint64),
        "truncation": np.array([[golden.truncation]], np.float32),
        "label": np.array([[golden.label]], np.int64),
        "latent": latent,
    }


@pytest.mark.parametrize("file_name", ["model.onnx", "model.fp16.onnx"])
@pytest.mark.parametrize("name", ["digits", "digits-decode"])
def test_golden_seeds_come_out_again_from_the_published_file(gan: Exported, name: str, file_name: str) -> None:
    certificate = Certificate.read(gan.repository / name / "1")
    session = onnxruntime.InferenceSession(gan.repository / name / "1" / file_name, providers=["CPUExecutionProvider"])
    golden = certificate.files[file_name].golden
    assert {0, 1, 2**64 - 1, 2**63} <= {entry.seed for entry in golden}
    assert {entry.truncation for entry in golden} == {1.0, float(np.float32(0.7))}
    assert len({entry.sha256 for entry in golden}) == len(golden)
    for entry in golden:
        feeds = golden_feeds(entry, certificate.latent_shape)
        (image,) = session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})
        assert image.shape == (1, 16, 16, 3)
        assert hashlib.sha256(image[0].tobytes()).hexdigest() == entry.sha256


@pytest.mark.parametrize(("which", "mode"), [("gan", "RGB"), ("vae", "L")])
def test_golden_png_holds_the_golden_images_and_says_they_are_ai_generated(
    request: pytest.FixtureRequest, which: str, mode: str
) -> None:
    exported: Exported = request.getfixturevalue(which)
    image = Image.open(io.BytesIO((exported.result.folder / "golden.png").read_bytes()))
    golden = exported.result.certificate.files["model.onnx"].golden
    assert (image.mode, image.size) == (mode, (16, 16 * len(golden)))
    assert image.info["ganvas:machine-made"] == "true"
    assert "machine-made" in image.info["Software"]
    pixels = np.asarray(image)
    for i, entry in enumerate(golden):
        assert hashlib.sha256(pixels[16 * i : 16 * (i + 1)].tobytes()).hexdigest() == entry.sha256


@pytest.mark.parametrize("name", ["digits", "digits-decode"])
def test_configs_parse_and_name_their_model(gan: Exported, name: str) -> None:
    for path in (gan.repository / name).rglob("*.pbtxt"):
        config = text_format.Parse(path.read_text(), triton.ModelConfig())
        assert (config.name, config.max_batch_size) == (name, 5)
        assert (gan.repository / name / "1" / config.default_model_filename).is_file()
        check_descriptions(config, gan.result.certificate, versions=1)
    default = (gan.repository / name / "config.pbtxt").read_bytes()
    assert default == (gan.repository / name / "configs" / "cpu.pbtxt").read_bytes()


def test_export_again_adds_a_version_with_the_same_digest(gan: Exported, repository: Path) -> None:
    before = tree(repository)
    steps: list[str] = []
    result = export_model(load_checkpoint(gan.checkpoint), options(repository, instances=2), report=steps.append)
    assert (result.version, result.folder) == (2, repository / "digits" / "2")
    assert len(steps) == 4
    after = tree(repository)
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {path for path in before if path.endswith(".pbtxt")}
    for path in changed:
        config = text_format.Parse(after[path].decode(), triton.ModelConfig())
        assert config.instance_group[0].count == (2 if "config" in Path(path).stem or "cpu" in path else 1)
        check_descriptions(config, result.certificate, versions=2)
    assert set(after) - set(before) == {path.replace("/1/", "/2/") for path in before if "/1/" in path}
    assert after["digits/2/model.onnx"] == before["digits/1/model.onnx"]


def test_export_of_an_unconditional_model_takes_no_label(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = make_checkpoint("gan", num_classes=0)
    result = export_model(load_checkpoint(checkpoint), options(tmp_path / "models", "plain"))
    session = onnxruntime.InferenceSession(result.folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["seed", "truncation"]
    assert result.certificate.labels == ()
    assert {entry.label for entry in result.certificate.files["model.onnx"].golden} == {None}


def test_export_publishes_nothing_when_a_gate_fails(
    gan: Exported, networks: Networks, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise GateError("fp16 parity failed")

    monkeypatch.setattr(pipeline, "export_networks", lambda _: networks)
    monkeypatch.setattr(pipeline, "prove", fail)
    before = tree(repository.parent)
    with pytest.raises(GateError):
        export_model(load_checkpoint(gan.checkpoint), options(repository))
    assert tree(repository.parent) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 2}, r"digits version 1 has labels \('0', '1', '2'\) and this one would have \('0', '1'\)"),
        ({"latent_dim": 7}, r"digits version 1 has latent_shape \(6,\) and this one would have \(7,\)"),
    ],
)
def test_export_rejects_a_version_that_breaks_the_contract(
    make_checkpoint: Callable[..., Path], repository: Path, change: dict[str, int], message: str
) -> None:
    before = tree(repository.parent)
    with pytest.raises(InputError, match=f"{message}.*Export under another --name, or delete"):
        export_model(load_checkpoint(make_checkpoint("gan", **change)), options(repository))
    assert tree(repository.parent) == before


def test_export_rejects_another_max_batch_size(gan: Exported, repository: Path) -> None:
    with pytest.raises(InputError, match="digits version 1 has max_batch_size 5 and this one would have 16"):
        export_model(load_checkpoint(gan.checkpoint), options(repository, max_batch_size=16))


@pytest.mark.parametrize(
    ("field", "value", "limits"),
    [
        ("max_batch_size", 0, r"\[1, 1024\]"),
        ("instances", -1, r"\[0, 256\]"),
        ("threads", 257, r"\[1, 256\]"),
        ("num_golden", 13, r"\[1, 12\]"),
    ],
)
def test_options_reject_what_is_out_of_range(field: str, value: int, limits: str) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(ExportOptions).validate_python({"name": "digits", field: value})
    message = describe_validation_error(error.value, options_of(ExportOptions))
    assert re.fullmatch(f"--{field.replace('_', '-')} must be within {limits}; got {value}.", message)


def test_options_reject_fewer_parity_seeds_than_golden_ones() -> None:
    with pytest.raises(ValidationError, match="--num-parity-seeds must be at least --num-golden, 8; got 7"):
        ExportOptions(name="digits", num_parity_seeds=7)


def test_export_looks_again_under_the_lock_for_what_was_published_meanwhile(
    gan: Exported, make_checkpoint: Callable[..., Path], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another export of the same name, with other labels, ends while this one is being proven."""
    (repository / "digits").rename(repository.parent / "later")
    (repository / "digits-decode").rename(repository.parent / "later-decode")
    prove: Any = getattr(pipeline, "prove")  # noqa: B009  the pipeline exports its own names alone

    def publish_meanwhile(*arguments: Any, **options: Any) -> Any:
        if (repository.parent / "later").exists():
            (repository.parent / "later-decode").rename(repository / "digits-decode")
            (repository.parent / "later").rename(repository / "digits")
        return prove(*arguments, **options)

    monkeypatch.setattr(pipeline, "prove", publish_meanwhile)
    with pytest.raises(InputError, match="digits version 1 has labels"):
        export_model(load_checkpoint(make_checkpoint("gan", num_classes=2)), options(repository, precision="fp32"))
    assert {entry.name for entry in (repository / "digits").iterdir() if entry.is_dir()} == {"1", "configs"}


def test_every_figure_of_the_proof_comes_from_a_check_that_ran(
    gan: Exported, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each check is called for each file that it is of: leaving one out is seen."""
    ran: list[str] = []

    def recording(name: str, check: Callable[..., Any]) -> Callable[..., Any]:
        def record(*arguments: Any, **options: Any) -> Any:
            ran.append(f"{name} {options.get('what') or options.get('precision') or ''}".strip())
            return check(*arguments, **options)

        return record

    for name in ("check_noise", "check_floats", "check_pixels", "check_batch_invariance", "check_equal"):
        monkeypatch.setattr(parity, name, recording(name, getattr(parity, name)))
    export_model(load_checkpoint(gan.checkpoint), options(repository))
    assert sorted(ran) == [
        "check_batch_invariance model.fp16.onnx: sample",
        "check_batch_invariance model.onnx: sample",
        "check_batch_invariance the network",
        "check_equal model.fp16.onnx: decode(latent(seed) * truncation)",
        "check_equal model.onnx: decode(latent(seed) * truncation)",
        "check_floats",
        "check_noise",
        "check_pixels fp16",
        "check_pixels fp32",
    ]


def test_export_asks_the_device_about_every_file_and_publishes_nothing_that_it_refuses(
    gan: Exported, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime itself refuses: the CPU stands in for a device, and is what must not be fallen back to."""
    asked: list[str] = []

    def ask(graph: Path) -> bool:
        asked.append(f"{graph.parent.name}/{graph.name}")
        found: bool = check_on_gpu(graph)
        return found

    check_on_gpu: Any = getattr(pipeline, "check_on_gpu")  # noqa: B009  the pipeline exports its own names alone
    monkeypatch.setattr(pipeline, "check_on_gpu", ask)
    export_model(load_checkpoint(gan.checkpoint), options(repository, "without-a-device"))
    files = ("model.onnx", "model.fp16.onnx")
    assert sorted(asked) == sorted(f"{role}/{name}" for role in ("decode", "sample") for name in files)

    monkeypatch.setattr(guards, "_DEVICE", Path("/dev/null"))
    monkeypatch.setattr(guards, "_PROVIDER", "CPUExecutionProvider")
    before = tree(repository.parent)
    with pytest.raises(GateError, match=r"the graph does not run on the GPU alone: "):
        export_model(load_checkpoint(gan.checkpoint), options(repository))
    assert tree(repository.parent) == before


def test_export_of_weights_that_go_missing_publishes_nothing(
    gan: Exported, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(tensors: object) -> Any:
        return iter([b""])

    monkeypatch.setattr(onnx_file, "_aligned", lose)
    before = tree(repository.parent)
    with pytest.raises(GateError, match=r"the external data of network/.* is missing: model\.onnx\.data has 0 bytes"):
        export_model(load_checkpoint(gan.checkpoint), options(repository), external_bytes=10_000)
    assert tree(repository.parent) == before
