"""`./ganvas models publish | rollback | pin`: what they write, and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ganvas_core.description import described_versions
from serving.cli.models import models
from serving.repository.pins import PINS_FILE, read_pins
from serving.repository.reader import read_config, read_repository
from tests.support import cli
from tests.support.disk import full_disk


def run(repository: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and what was printed."""
    result = cli.run(models, [*arguments, "--repository", str(repository)])
    return result.exit_code, result.stdout + result.stderr


def test_pin_and_rollback_say_and_keep_what_an_empty_version_means(
    repository: Path, add_version: Callable[[str, int], None]
) -> None:
    for version in (2, 3):
        add_version("plain-gan", version)
    assert run(repository, "rollback", "plain-gan") == (0, "an empty version of plain-gan means 2\n")
    assert run(repository, "rollback", "plain-gan") == (0, "an empty version of plain-gan means 1\n")
    code, output = run(repository, "rollback", "plain-gan")
    assert (code, output) == (2, "models: plain-gan has no version before 1; there is: 1, 2, 3.\n")
    assert run(repository, "pin", "plain-gan", "2") == (0, "an empty version of plain-gan means 2\n")
    assert read_pins(repository) == {"plain-gan": 2}
    assert "pinned" in run(repository)[1]
    assert run(repository, "pin", "plain-gan") == (0, "an empty version of plain-gan means the newest, 3\n")
    assert read_pins(repository) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pin", "plain-gan", "7"], "model 'plain-gan' has no version 7; there is 1."),
        (["pin", "nobody", "1"], "has no model 'nobody'"),
        (["rollback"], "models rollback needs a NAME"),
        (["list", "nope"], "models list takes no NAME; got 'nope'."),
        (["publish", "plain-gan"], "needs --source FOLDER"),
        (["forget", "plain-gan"], "ACTION must be"),
    ],
)
def test_models_refuses_in_one_line(repository: Path, arguments: list[str], words: str) -> None:
    code, output = run(repository, *arguments)
    assert code == 2
    assert words in output
    assert output.count("\n") == 1
    assert not (repository / PINS_FILE).exists()


def test_publish_copies_a_version_with_its_companions(
    repository: Path, add_version: Callable[[str, int], None], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    shutil.copytree(repository, target)
    add_version("tiny-vae", 2)
    code, output = run(target, "publish", "tiny-vae", "--source", str(repository))
    assert code == 0
    assert output.startswith("published tiny-vae version 2, digest ")
    assert (
        read_repository(target).find("tiny-vae").certificate == read_repository(repository).find("tiny-vae").certificate
    )
    for model in ("tiny-vae", "tiny-vae-decode", "tiny-vae-encode"):
        for config_name in (None, "gpu-fp16"):  # they describe what is in the target
            parameters = read_config(target / model, config_name).parameters
            versions = described_versions({key: value.string_value for key, value in parameters.items()})
            assert sorted(versions) == ["1", "2"]
    assert run(target, "publish", "tiny-vae", "2", "--source", str(repository))[0] == 0  # once more does no harm
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository", "target"]


def test_publish_refuses_a_configuration_that_is_not_for_the_versions_that_are_there(
    repository: Path, add_version: Callable[[str, int], None], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    shutil.copytree(repository, target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    add_version("plain-gan", 2)
    path = repository / "plain-gan" / "configs" / "gpu.pbtxt"
    path.write_text(path.read_text().replace("max_batch_size: 16", "max_batch_size: 32"))
    code, output = run(target, "publish", "plain-gan", "--source", str(repository))
    assert code == 2
    assert output == (
        "models: plain-gan/configs/gpu.pbtxt has max_batch_size 32, but it is for version 1 of plain-gan too, which "
        "needs 16. Export version 2 with the options of version 1, or under another --name.\n"
    )
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_publish_mends_a_configuration_that_cannot_be_read_and_takes_another_file_where_it_may(
    repository: Path, add_version: Callable[[str, int], None], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    shutil.copytree(repository, target)
    (target / "plain-gan" / "config.pbtxt").write_text("{")
    add_version("plain-gan", 2)
    path = repository / "plain-gan" / "configs" / "tensorrt.pbtxt"
    path.write_text(path.read_text().replace("model.fp16.onnx", "model.onnx"))  # as of a model without an fp16 file
    assert run(target, "publish", "plain-gan", "--source", str(repository))[0] == 0
    assert read_config(target / "plain-gan").max_batch_size == 16


def test_a_version_without_certificate_says_what_to_do(repository: Path, tmp_path: Path) -> None:
    (repository / "plain-gan" / "1" / "certificate.json").unlink()
    words = "was not exported by Ganvas, or its copy is not complete. Export it with ./ganvas export, or copy it whole"
    assert words in " ".join(run(repository)[1].split())
    code, output = run(tmp_path / "target", "publish", "plain-gan", "1", "--source", str(repository))
    assert (code, words in output, output.count("\n")) == (2, True, 1)


def test_publish_of_a_version_that_is_not_there_lists_what_is(repository: Path, tmp_path: Path) -> None:
    code, output = run(tmp_path / "target", "publish", "plain-gan", "7", "--source", str(repository))
    assert (code, output) == (2, f"models: {repository} has no plain-gan version 7; there is: 1.\n")


def test_publish_on_a_full_disk_names_the_repository_and_the_next_step(repository: Path, tmp_path: Path) -> None:
    with full_disk():
        code, output = run(tmp_path / "to", "publish", "plain-gan", "--source", str(repository))
    assert code == 1
    assert output.startswith(f"models: cannot publish to --repository {tmp_path / 'to'}: File too large")
    assert output.endswith("Free some space and publish again.\n")
    assert run(tmp_path / "to", "publish", "plain-gan", "--source", str(repository))[0] == 0


def test_publish_refuses_a_version_that_is_damaged_or_taken(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    shutil.copytree(repository, target)
    shutil.rmtree(target / "plain-gan" / "1")
    path = repository / "plain-gan" / "1" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    code, output = run(target, "publish", "plain-gan", "1", "--source", str(repository))
    assert code == 2
    assert "has SHA-256" in output
    assert not (target / "plain-gan" / "1").exists()


def test_pins_that_are_damaged_are_said(repository: Path) -> None:
    (repository / PINS_FILE).write_text('{"plain-gan": "two"}')
    code, output = run(repository)
    assert code == 2
    assert "must map model names to versions" in output


@pytest.mark.parametrize("deleted", [False, True])
def test_pin_that_cannot_be_kept_is_said(
    repository: Path, add_version: Callable[[str, int], None], deleted: bool
) -> None:
    add_version("plain-gan", 2)
    assert run(repository, "pin", "plain-gan", "1")[0] == 0
    path = repository / "plain-gan" / "1"
    if deleted:
        shutil.rmtree(path)
    else:
        (path / "model.onnx").write_bytes(b"no model")
    code, output = run(repository)
    assert code == 0
    assert ("missing, pinned" if deleted else "rejected, pinned") in output
    assert "plain-gan is pinned to version 1, which cannot be served:" in output.replace("\n", " ")
    row = json.loads(run(repository, "--json")[1])[0]
    assert (row["version"], row["pinned"], row["status"]) == (1, True, "missing" if deleted else "rejected")
