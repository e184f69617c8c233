"""What `serve` refuses before it starts anything."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ganvas_core.cli import UsageError
from ganvas_core.files import locked
from serving.keys.store import KeysFileError
from serving.options import ServeOptions
from serving.repository.pins import PINS_FILE
from serving.repository.reader import RepositoryError
from serving.supervise.output import LogFolderError
from serving.supervise.start import supervise


def test_serve_does_not_start_with_pins_that_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / PINS_FILE).write_text('{"tiny-gan": ', encoding="utf-8")
    with pytest.raises(RepositoryError, match=f"cannot read {tmp_path / PINS_FILE}.*Mend it, or delete it"):
        supervise(ServeOptions(repository=tmp_path), Console(quiet=True))


def test_serve_says_what_is_wrong_with_keys_and_certificates_before_it_starts(
    model_repository: Path, tmp_path: Path
) -> None:
    output = io.StringIO()
    console = Console(file=output)
    broken = tmp_path / "broken"
    broken.write_text("no PEM, no JSON", encoding="utf-8")
    broken.chmod(0o600)
    with pytest.raises(KeysFileError, match="is not JSON"):
        supervise(ServeOptions(repository=model_repository, keys_file=broken), console)
    with pytest.raises(UsageError, match=f"--tls-cert {broken}"):
        supervise(ServeOptions(repository=model_repository, tls_cert=broken, tls_key=broken), console)
    assert output.getvalue() == ""


def test_serve_shares_its_log_folder_with_nobody(model_repository: Path, tmp_path: Path) -> None:
    options = ServeOptions(
        repository=model_repository, log_dir=tmp_path, port=0, triton_grpc_port=0, triton_http_port=0, metrics_port=0
    )
    belongs = f"--log-dir {tmp_path} belongs to another"
    with locked(tmp_path / "service.log"), pytest.raises(LogFolderError, match=belongs):
        supervise(options, Console(quiet=True))
