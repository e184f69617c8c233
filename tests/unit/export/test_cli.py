"""`./ganvas export` as a person types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from export.cli import export
from ganvas_core.certificate import Certificate, file_sha256
from ganvas_core.names import FP16_FILE, REPORT_FILE
from tests.support import cli
from tests.unit.export.conftest import Exported


def run(*arguments: str | Path | int) -> cli.Result:
    return cli.run(export, list(map(str, arguments)))


def test_export_command_says_what_it_made(gan: Exported, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    result = run(gan.checkpoint, "--name", "cats", "--repository", repository, "--max-batch-size", 3)
    assert result.exit_code == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"cats version 1 is in {repository}/cats/1 (")
    assert "in every slot of batches of 1, 2, 3" in lines[-1]
    file = Certificate.read(repository / "cats" / "1").files[FP16_FILE]
    assert f"  fp16 network   {len(file.fp32_nodes)} nodes in float32; which and why: see the report" in lines
    page = (repository / "cats" / "1" / REPORT_FILE).read_text()
    assert all(f"<code>{node}</code>" in page for node in file.fp32_nodes)

    assert (repository / "cats" / "1" / "certificate.json").is_file()


def test_export_help_has_an_example_and_defaults() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "./ganvas export out/digits-gan/checkpoint --name digits-gan" in result.stdout + result.stderr
    assert "model_repository" in result.stdout + result.stderr


def truncated(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def newer(checkpoint: Path) -> None:
    info = checkpoint / "model.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"format": 99}))


def pickled(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"\x80\x04\x95garbage")


def missing(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)


@pytest.mark.parametrize(
    ("damage", "says"),
    [(missing, "does not exist"), (truncated, "truncated"), (newer, "format 99"), (pickled, "pickle")],
)
def test_export_rejects_a_bad_checkpoint_in_one_line(
    gan: Exported, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(gan.checkpoint, checkpoint)
    damage(checkpoint)
    result = run(checkpoint, "--name", "cats", "--repository", tmp_path / "models")
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("export: ")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["", "Cats", "-cats", "a" * 64, "cats/1", "cats-decode", "cats-encode", "..", "кот"])
def test_export_rejects_a_bad_name(gan: Exported, tmp_path: Path, name: str) -> None:
    result = run(gan.checkpoint, f"--name={name}", "--repository", tmp_path / "models")
    assert result.exit_code == 2
    assert result.stderr.startswith("export: --name must ")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "models").exists()


def test_export_rejects_a_repository_that_is_a_file(gan: Exported, tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"")
    result = run(gan.checkpoint, "--name", "cats", "--repository", tmp_path / "models")
    assert result.exit_code == 2
    assert result.stderr == f"export: --repository must be a folder; {tmp_path}/models is a file.\n"


def test_export_rejects_an_option_out_of_range(gan: Exported) -> None:
    result = run(gan.checkpoint, "--name", "cats", "--max-batch-size", "0")
    assert result.exit_code == 2
    assert result.stderr == "export: --max-batch-size must be within [1, 1024]; got 0.\n"


INTERRUPTED = """
import os, signal, sys
event, detail = sys.argv.pop(1), sys.argv.pop(1)
def press_ctrl_c(happened, arguments):
    if happened == event and detail in str(arguments):
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(press_ctrl_c)
from export.cli import export
from ganvas_core.cli import run_verbs
run_verbs(export)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "detail"),
    [("import", "onnxscript"), ("os.rename", "cats-decode")],
)
def test_export_ends_at_ctrl_c_with_130_and_leaves_nothing(
    gan: Exported, repository: Path, event: str, detail: str
) -> None:
    command = [sys.executable, "-c", INTERRUPTED, event, detail, "export", str(gan.checkpoint)]
    done = subprocess.run(
        [*command, "--name", "cats", "--repository", str(repository), "--max-batch-size", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (130, "export: interrupted.\n", "")
    assert {entry.name for entry in repository.iterdir()} == {"digits", "digits-decode"}
    assert {entry.name for entry in repository.parent.iterdir()} == {repository.name}


def test_export_rejects_weights_that_are_no_numbers(gan: Exported, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(gan.checkpoint, checkpoint)
    weights = load_file(checkpoint / "model.safetensors")
    name = next(name for name in weights if name.endswith("to_image.weight"))
    weights[name][0, 0, 0, 0] = float("nan")
    save_file(weights, checkpoint / "model.safetensors")
    info = checkpoint / "model.json"
    text, old = info.read_text(), file_sha256(gan.checkpoint / "model.safetensors")
    info.write_text(text.replace(old, file_sha256(checkpoint / "model.safetensors")))
    result = run(checkpoint, "--name", "cats", "--repository", tmp_path / "models")
    assert result.exit_code == 2
    assert "generator.to_image.weight holds NaN or infinite weights" in result.stderr
    assert not (tmp_path / "models").exists()
