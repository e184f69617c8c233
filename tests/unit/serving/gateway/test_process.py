"""A gateway that cannot start says why in one line, before Envoy is asked."""

from __future__ import annotations

import logging
import subprocess
import time
from pathlib import Path

import pytest

from ganvas_core.cli import UserError
from serving import child
from serving.gateway.process import GatewayProcess
from serving.gateway.settings import GatewaySettings, Tls
from serving.keys.store import add_key


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.pem, a.key, b.key and empty.pem."""
    folder = tmp_path_factory.mktemp("pem")
    for name in ("a", "b"):
        arguments = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x"]
        command = ["openssl", "req", "-x509", *arguments, "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "empty.pem").touch()
    return folder


@pytest.mark.parametrize(
    ("certificate", "key", "client_ca", "words"),
    [
        ("none.pem", "a.key", None, "No such file or directory."),
        ("a.pem", "b.key", None, "key values mismatch."),
        ("empty.pem", "a.key", None, "no PEM file that can be used."),
        ("a.pem", "a.key", "none.pem", "none.pem: No such file or directory."),
        ("a.pem", "a.key", "empty.pem", "empty.pem: "),
    ],
)
def test_gateway_names_the_certificate_that_cannot_be_used(
    pem: Path, tmp_path: Path, certificate: str, key: str, client_ca: str | None, words: str
) -> None:
    tls = Tls(certificate=pem / certificate, key=pem / key, client_ca=pem / client_ca if client_ca else None)
    with pytest.raises(UserError) as caught:
        GatewayProcess(GatewaySettings(tls=tls), tmp_path).start()
    message = str(caught.value)
    assert message.startswith("--tls-client-ca" if client_ca else "--tls-cert")
    assert words in message
    assert "\n" not in message


def test_gateway_says_so_when_the_keys_file_is_missing(tmp_path: Path) -> None:
    gateway = GatewayProcess(GatewaySettings(), tmp_path, keys_file=tmp_path / "keys.json")
    with pytest.raises(UserError, match="there is no such file"):
        gateway.start()
    gateway.stop()


def test_keys_file_that_cannot_be_used_is_logged_once_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, aside = tmp_path / "keys.json", tmp_path / "aside.json"
    add_key(path, "studio")
    gateway = GatewayProcess(GatewaySettings(), tmp_path / "gateway", keys_file=path)
    gateway._keys_seen = None
    taken: list[object] = []
    monkeypatch.setattr(gateway, "update", lambda **changes: taken.append(changes))
    caplog.set_level(logging.INFO, "ganvas.gateway")

    def look(times: int = 3) -> list[str]:
        caplog.clear()
        for _ in range(times):
            gateway.look_at_keys()
        return [line.split()[0] for line in caplog.messages]

    assert look() == ["event=keys-reloaded"]
    assert gateway.keys_ok
    path.rename(aside)
    assert look() == ["event=keys-not-reloaded"]
    assert not gateway.keys_ok
    for text in ("x", "{ ", "[" * 100_000):
        path.write_text(text)
        assert look() == ["event=keys-not-reloaded"]
        assert not gateway.keys_ok
    aside.replace(path)  # the very file that is in use
    assert look() == ["event=keys-reloaded"]
    assert gateway.keys_ok
    assert len(taken) == 1


def test_error_that_nobody_foresaw_does_not_end_the_following_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "studio")
    gateway = GatewayProcess(GatewaySettings(), tmp_path / "gateway", keys_file=path)
    errors: list[Exception] = [RuntimeError("a defect")]

    def update(**changes: object) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(gateway, "update", update)
    gateway.look_at_keys()
    assert not gateway.keys_ok
    assert "event=keys-not-reloaded reason='a defect'" in caplog.text
    gateway.look_at_keys()
    assert gateway.keys_ok


def test_gateway_says_so_when_its_port_is_taken(tmp_path: Path) -> None:
    settings = GatewaySettings(
        port=0, service=["127.0.0.1:1"], triton_grpc=["127.0.0.1:1"], triton_http=["127.0.0.1:1"]
    )
    first = GatewayProcess(settings, tmp_path / "a")
    first.start()
    try:
        first.wait_ready(120)
        taken = GatewaySettings(
            port=first.port, service=["127.0.0.1:1"], triton_grpc=["127.0.0.1:1"], triton_http=["127.0.0.1:1"]
        )
        second = GatewayProcess(taken, tmp_path / "b")
        second.start()
        with pytest.raises(UserError, match="Address already in use"):
            second.wait_ready(120)
        second.stop()
    finally:
        first.stop(0.1)


def test_gateway_bounds_its_log_without_a_keys_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MAX_LOG_BYTES", 10_000)
    monkeypatch.setattr(child, "LOG_POLL_S", 0.01)
    nobody = ["127.0.0.1:1"]
    gateway = GatewayProcess(GatewaySettings(port=0, service=nobody, triton_grpc=nobody, triton_http=nobody), tmp_path)
    gateway.start()
    try:
        gateway.wait_ready(120)
        with gateway.log_file.open("ab") as log:
            log.write(bytes(20_000))
        end = time.monotonic() + 60
        while gateway.log_file.stat().st_size >= 20_000:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        gateway.stop(0.1)
