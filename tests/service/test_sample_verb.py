"""`./ganvas sample` against our service: the grid, single files, their provenance, and one line for every mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clients.cli.sample import sample
from clients.cli.seeds import list_seeds, parse_seeds
from ganvas_client import Sampler
from ganvas_core.formats import SUFFIXES
from ganvas_core.grid import GUTTER
from serving.repository.reader import Repository
from tests.support import cli
from tests.support.scripted import Failure, Scripted, serving
from tests.support.service import Service

Run = Callable[..., cli.Result]


@pytest.fixture
def run(shared_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the verb in an empty folder, against the service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANVAS_ADDRESS", shared_service.address)

    def invoke(*arguments: str) -> cli.Result:
        return cli.run(sample, list(arguments))

    return invoke


def cells(image: Image.Image, columns: int, size: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """The images of a grid, row by row."""
    pixels = np.asarray(image)
    for index in range(count):
        row, column = divmod(index, columns)
        top, left = row * (size + GUTTER) + GUTTER, column * (size + GUTTER) + GUTTER
        yield pixels[top : top + size, left : left + size]


def test_sample_makes_a_square_grid_of_the_seeds_in_order(run: Run, shared_service: Service, tmp_path: Path) -> None:
    result = run("tiny-gan", "--seeds", "0-63", "--out", "grid.png", "--truncation", "0.7")
    assert result.exit_code == 0, result.stdout + result.stderr
    assert result.stdout.startswith("64 images of tiny-gan version 1 (")
    assert result.stdout.endswith(": grid.png\n")
    with Image.open("grid.png") as grid, Sampler(shared_service.address) as sampler:
        assert (grid.size, grid.mode) == ((8 * 34 + 2, 8 * 34 + 2), "L")
        expected = sampler.sample("tiny-gan", range(64), truncation=0.7).array[..., 0]
        assert np.array_equal(list(cells(grid, 8, 32, 64)), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_grid_says_where_it_came_from_and_that_a_machine_made_it(run: Run, repository: Repository) -> None:
    assert run("tiny-gan", "--seeds", "3,1,7-8", "--label", "4", "--truncation", "0.5", "--out", "g.png").exit_code == 0
    with Image.open("g.png") as grid:
        text = grid.text  # type: ignore[attr-defined]
    assert text["Software"] == "Ganvas, machine-made image"
    assert "AI-generated" in text["Description"]
    assert {key: value for key, value in text.items() if key.startswith("ganvas:")} == {
        "ganvas:machine-made": "true",
        "ganvas:model": "tiny-gan",
        "ganvas:version": "1",
        "ganvas:digest": repository.newest("tiny-gan").digest,
        "ganvas:seeds": "3,1,7-8",
        "ganvas:truncation": "0.5",
        "ganvas:label": "4",
    }


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_grid_of_another_format_says_so_in_its_exif(run: Run, suffix: str, kind: str) -> None:
    assert run("plain-gan", "--seeds", "0-5", "--out", f"grid.{suffix}", "--columns", "6").exit_code == 0
    with Image.open(f"grid.{suffix}") as grid:
        assert grid.format == kind
        assert grid.size == (6 * 18 + 2, 20)
        assert "ganvas:seeds=0-5" in grid.getexif()[0x010E]


def test_folder_gets_one_file_a_seed_as_the_service_makes_them(run: Run, shared_service: Service) -> None:
    result = run("plain-gan", "--seeds", "5,18446744073709551615", "--out", "new/folder/", "--format", "webp")
    assert result.exit_code == 0, result.stdout + result.stderr
    with Sampler(shared_service.address) as sampler:
        files = sampler.sample("plain-gan", [5, 2**64 - 1], format="webp").bytes
    found = sorted(Path("new/folder").iterdir())
    assert [path.name for path in found] == ["plain-gan-18446744073709551615.webp", "plain-gan-5.webp"]
    assert [path.read_bytes() for path in found] == files[::-1]


def test_existing_folder_needs_no_slash_and_png_is_the_default(run: Run) -> None:
    Path("there").mkdir()
    assert run("tiny-gan", "--seeds", "9", "--out", "there").exit_code == 0
    with Image.open("there/tiny-gan-9.png") as image:
        assert image.text["ganvas:seed"] == "9"  # type: ignore[attr-defined]


def test_out_is_named_after_the_model_by_default(run: Run) -> None:
    assert run("tiny-gan", "--seeds", "0").exit_code == 0
    with Image.open("out/tiny-gan.png") as grid:
        assert grid.size == (36, 36)


def test_existing_file_is_replaced_whole_and_kept_when_the_call_fails(run: Run) -> None:
    Path("grid.png").write_bytes(b"older")
    assert run("tiny-gan", "--seeds", "0", "--out", "grid.png", "--truncation", "9").exit_code == 2
    assert Path("grid.png").read_bytes() == b"older"
    assert run("tiny-gan", "--seeds", "0", "--out", "grid.png").exit_code == 0
    assert Path("grid.png").read_bytes().startswith(b"\x89PNG")
    assert list(Path().iterdir()) == [Path("grid.png")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "there is: plain-gan, tiny-gan, tiny-vae"),
        (["tiny-gan", "--version", "7"], "has no version 7"),
        (["tiny-gan", "--seeds", "0-x"], "--seeds must be numbers and ranges like 0-63 or 1,5,9-12; got '0-x'"),
        (["tiny-gan", "--seeds", "1,,2"], "--seeds must be numbers and ranges"),
        (["tiny-gan", "--seeds", "-4"], "--seeds must be numbers and ranges"),
        (["tiny-gan", "--seeds", "9-5"], "--seeds must be ranges from low to high; got 9-5"),
        (["tiny-gan", "--seeds", "18446744073709551616"], "--seeds must be within [0, 2^64); got 18446744073709551616"),
        (["tiny-gan", "--seeds", "0-99999999999"], "--seeds must name at most 1048576 seeds; got 100000000000"),
        (["tiny-gan", "--label", "cat"], "--label must be a label of tiny-gan (0, 1, 2, "),
        (["tiny-gan", "--label", "10"], "or its index; got '10'"),
        (["plain-gan", "--label", "0"], "(none: the model is unconditional)"),
        (["tiny-gan", "--truncation", "nan"], "--truncation must be a finite number; got nan"),
        (["tiny-gan", "--out", "grid.gif"], f"--out must end in {', '.join(SUFFIXES)} or in / for a folder"),
        (["tiny-gan", "--out", "g.jpg", "--format", "png"], "--out is a jpeg file by its name, 'g.jpg', but --format"),
    ],
)
def test_mistake_is_one_line_and_writes_nothing(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("sample: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert list(Path().iterdir()) == []


def test_place_that_cannot_be_written_is_one_line(run: Run) -> None:
    Path("file").write_text("")
    result = run("tiny-gan", "--seeds", "0", "--out", "file/grid.png")
    assert result.exit_code == 1
    assert result.stderr == "sample: cannot write file/grid.png: File exists.\n"


def test_nobody_at_the_address_is_one_line(run: Run) -> None:
    result = run("tiny-gan", "--address", "127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr.startswith("sample: no sampling service answers at 127.0.0.1:1")
    assert result.stderr.endswith("Start one: ./ganvas serve.\n")


def test_help_shows_an_example_and_the_defaults() -> None:
    command = [sys.executable, "-m", "clients.cli", "sample", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    assert "Usage: ./ganvas sample" in shown.stdout
    assert "Example: ./ganvas sample digits-gan --seeds 0-63 --out grid.png" in shown.stdout
    for default in ("0-63", "127.0.0.1:50051", "600.0"):
        assert f"[default: {default}]" in shown.stdout


def test_seeds_are_read_in_the_order_given() -> None:
    assert list(list_seeds(parse_seeds("5"), max_count=9)) == [5]
    assert list(list_seeds(parse_seeds("9-11, 3,3"), max_count=9)) == [9, 10, 11, 3, 3]
    assert list_seeds(parse_seeds("0-65535"), max_count=65536) == range(65536)


@pytest.mark.parametrize(
    ("seeds", "arguments", "columns", "rows"),
    [("0", [], 1, 1), ("0-9", [], 4, 3), ("0-2", ["--columns", "9"], 3, 1), ("0-4", ["--columns", "2"], 2, 3)],
)
def test_grid_is_as_square_as_can_be_unless_told_otherwise(
    run: Run, seeds: str, arguments: list[str], columns: int, rows: int
) -> None:
    assert run("plain-gan", "--seeds", seeds, "--out", "grid.png", *arguments).exit_code == 0
    with Image.open("grid.png") as image:
        assert image.size == (columns * (16 + GUTTER) + GUTTER, rows * (16 + GUTTER) + GUTTER)


GATE = Failure(code=grpc.StatusCode.NOT_FOUND, details="no such model.")


def test_sample_sends_its_key_over_tls(certificate: tuple[bytes, Path]) -> None:
    key, ca = certificate
    handler = Scripted(failures=[GATE], forever=True)
    credentials = grpc.ssl_server_credentials([(key, ca.read_bytes())])
    with serving(handler, credentials=credentials) as address:
        arguments = ["m", "--address", address, "--tls-ca", str(ca)]
        result = cli.run(sample, arguments, {"GANVAS_API_KEY": "gv-secret"})
    assert (result.exit_code, result.stderr) == (2, "sample: no such model.\n")
    assert handler.metadata[0]["authorization"] == "Bearer gv-secret"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "abc"], "--seeds must be numbers and ranges like 0-63 or 1,5,9-12; got 'abc'."),
        (["--out", "grid.gif"], f"--out must end in {', '.join(SUFFIXES)} or in / for a folder; got 'grid.gif'."),
        (["--tls-client-cert", "a.pem"], "--tls-client-cert and --tls-client-key belong together; give both."),
        (
            ["--tls-client-cert", "a.pem", "--tls-client-key", "a.key"],
            "--tls-client-cert needs --tls-ca: a certificate is shown over TLS alone.",
        ),
    ],
)
def test_arguments_are_checked_before_anything_is_asked(arguments: list[str], message: str) -> None:
    result = cli.run(sample, ["m", "--address", "127.0.0.1:1", *arguments])
    assert (result.exit_code, result.stderr) == (2, f"sample: {message}\n")


def test_sample_refuses_files_that_are_no_certificates(tmp_path: Path, certificate: tuple[bytes, Path]) -> None:
    ca = certificate[1]
    (tmp_path / "other.pem").write_text("no certificate")
    result = cli.run(sample, ["m", "--tls-ca", str(tmp_path / "other.pem")])
    assert (result.exit_code, result.stderr) == (
        2,
        f"sample: --tls-ca {tmp_path}/other.pem holds no certificate in PEM.\n",
    )
    both = ["--tls-ca", str(ca), "--tls-client-cert", str(ca), "--tls-client-key", str(tmp_path / "other.pem")]
    result = cli.run(sample, ["m", *both])
    assert result.exit_code == 2
    assert result.stderr.endswith("must be a certificate and its key in PEM, the key not encrypted.\n")


def test_sample_shows_its_client_certificate(tmp_path: Path, certificate: tuple[bytes, Path]) -> None:
    key, ca = certificate
    handler = Scripted(failures=[GATE], forever=True)
    credentials = grpc.ssl_server_credentials(
        [(key, ca.read_bytes())], root_certificates=ca.read_bytes(), require_client_auth=True
    )
    with serving(handler, credentials=credentials) as address:
        arguments = ["m", "--address", address, "--tls-ca", str(ca)]
        client = ["--tls-client-cert", str(ca), "--tls-client-key", str(tmp_path / "key.pem")]
        assert cli.run(sample, [*arguments, *client]).stderr == "sample: no such model.\n"
        without = cli.run(sample, arguments)
    assert without.exit_code == 1
    assert without.stderr.startswith(f"sample: {address} ended the TLS connection at once. It may ask for a client ")
    assert handler.attempts == 1


def test_sample_says_what_is_wrong_with_the_connection(tmp_path: Path, certificate: tuple[bytes, Path]) -> None:
    key, ca = certificate
    other = tmp_path / "other"
    other.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=stranger", "-days", "2", "-keyout", str(other / "key.pem"), "-out", str(other / "ca.pem")]
    subprocess.run(command, check=True, capture_output=True)
    credentials = grpc.ssl_server_credentials([(key, ca.read_bytes())])
    with serving(Scripted(), credentials=credentials) as tls, serving(Scripted()) as plain:
        for address, arguments, words in (
            (tls, [], "closed the connection at once. It may speak TLS: give credentials, or --tls-ca FILE"),
            (tls, ["--tls-ca", str(other / "ca.pem")], "is not trusted (self signed certificate). Trust the authority"),
            (plain, ["--tls-ca", str(ca)], "speaks no TLS. Leave out the credentials (--tls-ca)"),
            ("nobody.invalid:1", [], "nobody.invalid:1 cannot be looked up"),
        ):
            result = cli.run(sample, ["m", "--address", address, *arguments])
            assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.stderr
            assert words in result.stderr
            assert "no sampling service answers" not in result.stderr
        name = tls.replace("127.0.0.1", "localhost")
        result = cli.run(sample, ["m", "--address", name, "--tls-ca", str(ca)])
        assert f"the certificate of {name} is not for localhost." in result.stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "http://127.0.0.1:50051"])
def test_sample_refuses_what_is_no_address(address: str) -> None:
    for result in (cli.run(sample, ["m", "--address", address]), cli.run(sample, ["m"], {"GANVAS_ADDRESS": address})):
        assert result.exit_code == 2
        assert result.stderr.startswith(f"sample: --address must be HOST:PORT; got '{address}'.")


def test_sample_names_a_missing_file_of_authorities(tmp_path: Path) -> None:
    result = cli.run(sample, ["m", "--tls-ca", str(tmp_path / "none.pem")])
    assert result.exit_code == 2
    assert result.stderr == f"sample: --tls-ca {tmp_path}/none.pem: No such file or directory.\n"


def test_sample_repeats_no_key(tmp_path: Path) -> None:
    result = cli.run(sample, ["m"], {"GANVAS_API_KEY": "gv secret"})
    assert (result.exit_code, result.stderr) == (2, "sample: api_key must be printable ASCII without spaces.\n")
    assert "No such option" in cli.run(sample, ["m", "--api-key", "gv-secret"]).stderr
    assert "GANVAS_API_KEY" in cli.run(sample, ["--help"]).stdout


def test_sample_at_another_grpc_server_says_so() -> None:
    handler = Scripted(failures=[Failure(code=grpc.StatusCode.UNIMPLEMENTED, details="")], forever=True)
    with serving(handler) as address:
        result = cli.run(sample, ["m", "--address", address])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"sample: what answers at {address} is no sampling service: it knows no ")
