"""Envoy's configuration: every option is in it, Envoy accepts it, and only keys change what is read again."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.gateway.bootstrap import changing_files, fixed_files, whole
from serving.gateway.install import find_envoy
from serving.gateway.settings import GatewaySettings, Tls
from serving.keys.store import Key
from serving.options import ServeOptions
from serving.supervise.gateway_part import settings_of

KEYS = (
    Key(name="bulk", id="0123abcd", sha256="ab" * 32, created="", rate=7, concurrency=3),
    Key(name="studio", id="89abcdef", sha256="cd" * 32, created=""),
)


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(
        service=[str(tmp_path / "service.sock")],
        triton_grpc=["127.0.0.1:8001"],
        triton_http=["127.0.0.1:8000"],
        keys=KEYS,
        log_dir=tmp_path,
        otlp_endpoint="http://127.0.0.1:4317",
    )


def text_of(settings: GatewaySettings, folder: Path) -> str:
    return b"".join((fixed_files(settings, folder) | changing_files(settings, folder)).values()).decode()


def test_envoy_accepts_every_part_of_it(settings: GatewaySettings, tmp_path: Path) -> None:
    for case in (
        settings,
        replace(settings, keys=None, log_dir=None, otlp_endpoint=None),
        replace(settings, keys=()),
        replace(settings, draining=True),
        replace(settings, service=["10.0.0.1:50052", "10.0.0.2:50052"], host="::1"),
        replace(settings, service=["service.example:50052"]),
    ):
        (tmp_path / "check.json").write_bytes(whole(case, tmp_path))
        command = [str(find_envoy()), "-c", "check.json", "--mode", "validate", "--disable-hot-restart", "-l", "error"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("max_connections", 4321, '"max_active_downstream_connections": "4321"'),
        ("max_connection_streams", 321, '"max_concurrent_streams": 321'),
        ("max_direct_requests", 654, '"max_requests": 654'),
        ("max_direct_mib", 3, f'"max_request_bytes": {3 * 2**20}'),
        ("gateway_memory_mib", 777, f'"max_heap_size_bytes": "{777 * 2**20}"'),
        ("stream_idle_s", 12.5, '"stream_idle_timeout": "12.500s"'),
        ("connection_idle_s", 77.0, '"idle_timeout": "77s"'),
        ("max_count", 1000, f'"max_request_bytes": {65536 + 64 * 1000}'),
        ("max_stream_count", 1000, f'"max_request_bytes": {65536 + 32 * 1000}'),
        ("otlp_endpoint", "http://collector:4318", '"uri": "http://collector:4318/v1/traces"'),
        ("port", 50099, '"port_value": 50099'),
        ("host", "127.0.0.9", '"address": "127.0.0.9"'),
    ],
)
def test_every_limit_of_the_options_reaches_envoy(option: str, value: Any, shown: str, tmp_path: Path) -> None:
    options = ServeOptions(**{option: value})
    assert shown in text_of(settings_of(options, service=[str(tmp_path / "s.sock")]), tmp_path)
    assert shown not in text_of(settings_of(ServeOptions(), service=[str(tmp_path / "s.sock")]), tmp_path)


def test_tls_is_read_from_the_files_themselves_and_a_client_certificate_is_demanded(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    tls = Tls(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem", client_ca=tmp_path / "ca.pem")
    text = text_of(replace(settings, tls=tls), tmp_path)
    assert str(tmp_path / "cert.pem") in text
    assert '"require_client_certificate": true' in text
    assert "TLSv1_2" in text
    plain = text_of(replace(settings, tls=replace(tls, client_ca=None)), tmp_path)
    assert '"require_client_certificate": true' not in plain


def test_a_change_of_keys_changes_routes_and_clusters_and_nothing_else(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    changed = replace(settings, keys=KEYS[1:])
    assert fixed_files(settings, tmp_path) == fixed_files(changed, tmp_path)
    before, after = changing_files(settings, tmp_path), changing_files(changed, tmp_path)
    assert b"key-bulk" in before["cds.json"]
    assert b"key-bulk" not in after["cds.json"]
    assert b"0123abcd" in before["rds.json"]
    assert b"0123abcd" not in after["rds.json"]


def test_quotas_of_a_key_are_a_token_bucket_and_a_circuit_breaker(settings: GatewaySettings, tmp_path: Path) -> None:
    files = changing_files(settings, tmp_path)
    (cluster,) = [it for it in json.loads(files["cds.json"])["resources"] if it["name"] == "key-bulk"]
    assert cluster["circuit_breakers"]["thresholds"][0]["max_requests"] == 3
    host = json.loads(files["rds.json"])["resources"][0]["virtual_hosts"][0]
    (descriptor,) = host["typed_per_filter_config"]["ganvas.rate"]["descriptors"]
    assert descriptor["entries"] == [{"key": "caller", "value": "bulk"}]
    assert descriptor["token_bucket"] == {"max_tokens": 7, "tokens_per_fill": 7, "fill_interval": "1s"}


def test_connections_that_a_burst_has_opened_to_tritons_http_are_closed_again(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    clusters = json.loads(changing_files(settings, tmp_path)["cds.json"])["resources"]
    (triton,) = [it for it in clusters if it["name"] == "triton-http"]
    (options,) = triton["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"]["idle_timeout"] == "60s"  # Envoy's default: an hour


def test_free_memory_goes_back_to_the_system(settings: GatewaySettings, tmp_path: Path) -> None:
    manager = json.loads(fixed_files(settings, tmp_path)["envoy.json"])["memory_allocator_manager"]
    assert int(manager["bytes_to_release"]) > 0  # Envoy's default: never
