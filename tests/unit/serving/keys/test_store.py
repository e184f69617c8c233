"""The keys file: a key is shown once, its hash is kept, and no crash or other user spoils it."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.keys.store import KeysFileError, add_key, read_keys, revoke_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_kept_as_its_hash_alone_in_a_file_that_only_its_owner_reads(path: Path) -> None:
    secret = add_key(path, "studio", rate=20, concurrency=4)
    (key,) = read_keys(path)
    assert (key.name, key.rate, key.concurrency) == ("studio", 20, 4)
    assert key.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret.startswith(f"ganvas_{key.id}_")
    assert len(random_part := secret.removeprefix(f"ganvas_{key.id}_")) == 32  # 24 bytes in base64
    assert random_part not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_keys_differ_and_a_revoked_one_is_gone(path: Path) -> None:
    secrets = {add_key(path, name) for name in ("c", "a", "b")}
    assert len(secrets) == 3
    assert [key.name for key in read_keys(path)] == ["a", "b", "c"]
    revoke_key(path, "b")
    assert [key.name for key in read_keys(path)] == ["a", "c"]


def test_keys_added_at_the_same_time_are_all_there(path: Path) -> None:
    names = [f"caller-{i}" for i in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: add_key(path, name), names))
    assert {key.name for key in read_keys(path)} == set(names)


@pytest.mark.parametrize("name", ["", "Studio", "a b", "../x", 'a"] = {}', "-a", "x" * 64])
def test_a_name_that_could_be_anything_else_is_refused(path: Path, name: str) -> None:
    with pytest.raises(KeysFileError, match=r"^NAME must be 1 to 63 of a-z"):
        add_key(path, name)
    assert not path.exists()


def test_a_name_is_taken_once_and_revoked_once(path: Path) -> None:
    add_key(path, "studio")
    with pytest.raises(KeysFileError, match="there is a key 'studio'"):
        add_key(path, "studio")
    with pytest.raises(KeysFileError, match="there is no key 'other'; there is: studio"):
        revoke_key(path, "other")


def test_a_missing_file_says_how_to_make_it(path: Path) -> None:
    with pytest.raises(KeysFileError, match=r"there is no such file\. ./ganvas keys add NAME makes it"):
        read_keys(path)


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    add_key(path, "studio")
    path.chmod(0o620)
    with pytest.raises(KeysFileError, match=r"others may write to it\. Remedy: chmod 600 "):
        read_keys(path)


KEY = {"name": "a", "id": "0" * 8, "sha256": "0" * 64, "created": "2026-11-25"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        pytest.param("[" * 100_000, "is not JSON", id="nested"),
        ('{"format": 2}', "format must be 1; got 2"),
        ('{"format": 1, "keys": [{"name": "a"}]}', "keys.0.id"),
        (json.dumps({"keys": [{**KEY, "name": 'a"] = nil --'}]}), "keys.0.name"),
        (json.dumps({"keys": [{**KEY, "sha256": "x"}]}), "keys.0.sha256"),
        (json.dumps({"keys": [{**KEY, "rate": 0}]}), "keys.0.rate"),
        (json.dumps({"keys": [KEY, {**KEY, "id": "1" * 8}]}), "two keys have the same name"),
        (json.dumps({"keys": [KEY, {**KEY, "name": "b"}]}), "two keys have the same id"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(path: Path, content: str, words: str) -> None:
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeysFileError) as caught:
        read_keys(path)
    assert str(caught.value).startswith(f"--keys-file {path}")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(path, "studio")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeysFileError, match="No space left on device"):
        add_key(path, "other")
    assert [key.name for key in read_keys(path)] == ["studio"]
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]
