"""`./ganvas verify` and `./ganvas models`: undamaged models pass, and every kind of damage is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.cli.models import models
from serving.cli.verify import verify
from tests.support import cli
from tests.support.certificates import without_golden_posteriors

VERBS: dict[str, Callable[[Any], int | None]] = {"verify": verify, "models": models}


def run(verb: str, *arguments: str) -> cli.Result:
    return cli.run(VERBS[verb], list(arguments), {"COLUMNS": "200"})


def edit_graph(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def change_a_noise_key(model: onnx.ModelProto) -> None:
    """The noise of dimension 0 becomes that of another key."""
    keys = next(entry for entry in model.graph.initializer if entry.name.endswith("noise/keys"))
    values = numpy_helper.to_array(keys).copy()
    values.flat[0] += 2
    keys.CopyFrom(numpy_helper.from_array(values, keys.name))


def mix_the_batch(model: onnx.ModelProto) -> None:
    """Every pixel becomes the brightest of its batch: alone in a batch, an image stays as it is."""
    (node,) = (node for node in model.graph.node if "image" in node.output)
    node.output[:] = ["apart"]
    model.graph.initializer.append(helper.make_tensor("batch_axis", TensorProto.INT64, [1], [0]))
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["apart"], ["wide"], to=TensorProto.INT32),
            helper.make_node("ReduceMax", ["wide", "batch_axis"], ["brightest"], keepdims=1),
            helper.make_node("Max", ["wide", "brightest"], ["mixed"]),
            helper.make_node("Cast", ["mixed"], ["image"], to=TensorProto.UINT8),
        ]
    )


@pytest.mark.parametrize("name", ["tiny-gan", "tiny-vae", "plain-gan"])
def test_verify_passes_what_was_exported(model_repository: Path, name: str) -> None:
    result = run("verify", name, "--repository", str(model_repository))
    assert result.exit_code == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert "✗" not in result.stdout
    for check in ("files", "configurations", "golden seeds, model.fp16.onnx", "noise, model.onnx", "batches"):
        assert check in result.stdout
    for check in ("encoder", "golden posteriors, model.onnx", "golden posteriors, model.fp16.onnx"):
        assert (check in result.stdout) == (name == "tiny-vae")


def test_verify_names_a_changed_file(repository: Path) -> None:
    with (repository / "tiny-gan" / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    result = run("verify", "tiny-gan", "--repository", str(repository))
    assert result.exit_code == 1
    assert result.stderr.startswith("verify: files: ")
    assert "tiny-gan/1/model.onnx has SHA-256" in result.stderr


def test_verify_fails_on_a_rejected_newest_version_and_passes_an_older_one(
    repository: Path, add_version: Callable[[str, int], None]
) -> None:
    add_version("tiny-gan", 2)
    (repository / "tiny-gan" / "2" / "golden.png").unlink()
    assert run("verify", "tiny-gan", "--repository", str(repository)).exit_code == 1
    assert run("verify", "tiny-gan", "--version", "1", "--repository", str(repository)).exit_code == 0


def test_verify_finds_wrong_noise_under_a_matching_certificate(
    repository: Path, recertify: Callable[[Path], None]
) -> None:
    folder = repository / "tiny-gan" / "1"
    edit_graph(folder / "model.onnx", change_a_noise_key)
    recertify(folder)
    result = run("verify", "tiny-gan", "--repository", str(repository))
    assert result.exit_code == 1
    assert "verify: noise, model.onnx: decode(latents(seed) * truncation) with NumPy's latents gives other" in (
        result.stderr
    )
    assert "verify: golden seeds, model.onnx: model 'tiny-gan' version 1: golden seed" in result.stderr
    assert "fp16" not in result.stderr


def test_verify_finds_a_graph_whose_images_depend_on_their_batch(
    repository: Path, recertify: Callable[[Path], None]
) -> None:
    folder = repository / "plain-gan-decode" / "1"
    edit_graph(folder / "model.onnx", mix_the_batch)
    recertify(folder)
    result = run("verify", "plain-gan", "--repository", str(repository))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "verify: batches, model.onnx: plain-gan-decode in a batch of 2 gives other bytes" in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("dims: 32", "dims: 31"), "tiny-gan/config.pbtxt has output"),
        (("TYPE_UINT64", "TYPE_INT64"), "tiny-gan/config.pbtxt has input"),
        (("max_batch_size: 16", "max_batch_size: 8"), "has max_batch_size 8; it must be 16"),
        (('backend: "onnxruntime"', 'backend: "python"'), "has backend 'python'; it must be 'onnxruntime'"),
        (('name: "tiny-gan"', 'name: "other"'), "has name 'other'; it must be 'tiny-gan'"),
        ((r"\"dcgan\"", r"\"other\""), "has parameter ganvas.version.1, which does not agree with the certificate"),
    ],
)
def test_verify_finds_a_configuration_that_disagrees_with_the_graph(
    repository: Path, change: tuple[str, str], message: str
) -> None:
    path = repository / "tiny-gan" / "config.pbtxt"
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change, 1))
    result = run("verify", "tiny-gan", "--repository", str(repository))
    assert result.exit_code == 1
    assert result.stderr.startswith("verify: configurations: ")
    assert message in result.stderr


def test_verify_finds_a_file_that_is_no_graph(repository: Path, recertify: Callable[[Path], None]) -> None:
    folder = repository / "tiny-vae-encode" / "1"
    (folder / "model.onnx").write_bytes(b"\x08\x00")
    recertify(folder)
    result = run("verify", "tiny-vae", "--repository", str(repository))
    assert result.exit_code == 1
    assert "verify: encoder, model.onnx: ONNX Runtime cannot load" in result.stderr


def negate_convolutions(model: onnx.ModelProto) -> None:
    for weights in model.graph.initializer:
        if len(weights.dims) == 4:
            weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))


@pytest.mark.parametrize("file_name", ["model.onnx", "model.fp16.onnx"])
def test_verify_finds_an_encoder_with_other_weights_under_a_matching_certificate(
    repository: Path, recertify: Callable[[Path], None], file_name: str
) -> None:
    folder = repository / "tiny-vae-encode" / "1"
    edit_graph(folder / file_name, negate_convolutions)
    recertify(folder)
    result = run("verify", "tiny-vae", "--repository", str(repository))
    assert result.exit_code == 1
    failure = (
        f"verify: golden posteriors, {file_name}: model 'tiny-vae' version 1: the posterior of golden seed 0 differs"
    )
    assert result.stderr.startswith(failure)
    assert result.stderr.count("\n") == 1


def test_verify_finds_other_values_in_golden_npy_under_a_matching_certificate(
    repository: Path, recertify: Callable[[Path], None]
) -> None:
    folder = repository / "tiny-vae-encode" / "1"
    np.save(folder / "golden.npy", np.load(folder / "golden.npy")[::-1])
    recertify(folder)
    result = run("verify", "tiny-vae", "--repository", str(repository))
    assert result.exit_code == 1
    assert "golden.npy of tiny-vae-encode version 1 has another posterior of golden seed 0" in result.stderr


@pytest.mark.parametrize("name", ["golden.npy", "golden.png"])
def test_verify_names_a_damaged_file_beside_the_encoder(repository: Path, name: str) -> None:
    path = repository / "tiny-vae-encode" / "1" / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    result = run("verify", "tiny-vae", "--repository", str(repository))
    assert result.exit_code == 1
    assert result.stderr.startswith("verify: files: ")
    assert f"tiny-vae-encode/1/{name} has SHA-256" in result.stderr


def test_verify_passes_an_encoder_of_an_earlier_release(repository: Path) -> None:
    without_golden_posteriors(repository / "tiny-vae-encode" / "1")
    result = run("verify", "tiny-vae", "--json", "--repository", str(repository))
    assert (result.exit_code, result.stderr) == (0, "")
    checks = [entry["check"] for entry in json.loads(result.stdout)["checks"]]
    assert "encoder, model.onnx" in checks
    assert not any("posteriors" in check for check in checks)


@pytest.mark.parametrize("arguments", [["nope"], ["tiny-gan", "--version", "9"], [".."]])
def test_verify_says_what_there_is_when_it_is_asked_for_something_else(
    model_repository: Path, arguments: list[str]
) -> None:
    result = run("verify", *arguments, "--repository", str(model_repository))
    assert result.exit_code == 2
    assert result.stderr.startswith("verify: ")
    assert "there is" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", [["verify", "x"], ["models"]])
def test_verbs_say_so_when_there_is_no_repository(tmp_path: Path, verb: list[str]) -> None:
    result = run(*verb, "--repository", str(tmp_path / "missing"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{verb[0]}: cannot read the model repository")


def test_models_lists_every_version_and_why_one_is_rejected(repository: Path) -> None:
    (repository / "tiny-vae-encode" / "1" / "model.onnx").unlink()
    result = run("models", "--repository", str(repository))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    (gan,) = (line for line in lines if "tiny-gan" in line)
    for cell in ("gan", "32x32x1", "10", "fp32", "ok"):
        assert cell in gan
    (vae,) = (line for line in lines if "tiny-vae " in line and "│" in line)
    assert "rejected" in vae
    assert "tiny-vae version 1 is rejected: " in result.stdout
    assert "model.onnx is missing" in result.stdout.replace("\n", " ")


def test_models_prints_json_for_programs(repository: Path) -> None:
    (repository / "plain-gan" / "config.pbtxt").unlink()
    result = run("models", "--json", "--config-name", "gpu-fp16", "--repository", str(repository))
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert set(rows) == {"plain-gan", "tiny-gan", "tiny-vae"}
    assert rows["tiny-vae"]["triton_models"] == ["tiny-vae", "tiny-vae-decode", "tiny-vae-encode"]
    assert rows["tiny-gan"]["precision"] == "fp16"
    assert rows["tiny-gan"]["labels"] == [str(digit) for digit in range(10)]


def test_verify_prints_json_with_a_record_a_proof(model_repository: Path) -> None:
    result = run("verify", "tiny-vae", "--json", "--repository", str(model_repository))
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["name"], report["passed"]) == ("tiny-vae", True)
    assert [entry["check"] for entry in report["checks"]][:3] == ["files", "configurations", "golden seeds, model.onnx"]
    assert all(entry["passed"] and entry["detail"] for entry in report["checks"])


def test_verify_in_json_says_what_failed(repository: Path) -> None:
    (repository / "tiny-gan" / "1" / "golden.png").unlink()
    result = run("verify", "tiny-gan", "--json", "--repository", str(repository))
    report = json.loads(result.stdout)
    assert (result.exit_code, report["passed"]) == (1, False)
    assert report["checks"][0]["check"] == "files"
    assert "golden.png is missing" in report["checks"][0]["detail"]


def test_verify_with_a_checkpoint_that_is_none_says_so(model_repository: Path, tmp_path: Path) -> None:
    arguments = ["tiny-gan", "--checkpoint", str(tmp_path / "nothing"), "--repository", str(model_repository)]
    result = run("verify", *arguments)
    assert result.exit_code == 1
    assert f"verify: parity: {tmp_path}/nothing" in result.stderr
    assert "Traceback" not in result.stderr


def test_verify_takes_a_checkpoint_or_a_server_not_both() -> None:
    result = run("verify", "tiny-gan", "--checkpoint", "here", "--url", "127.0.0.1:1")
    assert result.exit_code == 2
    assert result.stderr.startswith("verify: --checkpoint and --url exclude each other")


def test_verify_of_a_server_that_is_not_there_fails_in_a_line() -> None:
    result = run("verify", "tiny-gan", "--url", "127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr.startswith("verify: certificate: no sampling service answers at 127.0.0.1:1 (")
    assert len(result.stderr.splitlines()) == 1
