"""`./ganvas keys`: the key goes to stdout once, and mistakes end in one line."""

from __future__ import annotations

from pathlib import Path

from serving.cli.keys import keys
from serving.keys.store import read_keys
from tests.support import cli


def run(*arguments: str) -> cli.Result:
    return cli.run(keys, list(arguments), {"COLUMNS": "120"})


def test_keys_are_added_listed_and_revoked(tmp_path: Path) -> None:
    file = f"--keys-file={tmp_path / 'keys.json'}"
    added = run("add", "studio", file, "--rate", "20", "--concurrency=4")
    assert added.exit_code == 0, added.stderr
    assert added.stdout.startswith("ganvas_")
    assert "only time" in added.stderr
    listed = run("list", file)
    assert "studio" in listed.stdout
    assert "20" in listed.stdout
    assert added.stdout.strip() not in listed.stdout
    assert run("revoke", "studio", file).stdout == "revoked studio\n"
    assert read_keys(tmp_path / "keys.json") == ()


def test_keys_say_what_is_missing_in_one_line(tmp_path: Path) -> None:
    file = f"--keys-file={tmp_path / 'keys.json'}"
    for arguments, code, words in (
        (("add", file), 2, "keys: keys add needs a NAME."),
        (("drop", "x", file), 2, "keys: ACTION must be 'add', 'list' or 'revoke'; got drop."),
        (("add", "x", file, "--rate=0"), 2, "keys: --rate must be within [1, 1000000]; got 0."),
        (("list", "bob", file), 2, "keys: keys list takes no NAME; got 'bob'. Leave it out"),
        (("list", file, "--rate=3"), 2, "keys: keys list takes no --rate; got 3. It is an option of keys add."),
        (("revoke", "x", file, "--concurrency=3"), 2, "keys: keys revoke takes no --concurrency; got 3."),
        (("add", "x", "--keys-file=/dev/full"), 2, "keys: --keys-file /dev/full is no regular file."),
        (("list", file), 2, "there is no such file. ./ganvas keys add NAME makes it."),
        (("add", "x", f"--keys-file={tmp_path / 'no' / 'keys.json'}"), 2, "No such file or directory."),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.stderr
        assert words in result.stderr
