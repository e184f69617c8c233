"""Settings: checked by name, handed to the child process whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import ConfigError, Limits, ServeConfig, ServiceConfig, address_of


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"port": -1}, ["--port", "[0, 65535]", "-1"]),
        ({"port": 65536}, ["--port", "65536"]),
        ({"triton_http_port": 70000}, ["--triton-http-port", "70000"]),
        ({"port": 8001}, ["--port", "--triton-grpc-port", "8001", "0"]),
        ({"drain_s": -1.0}, ["--drain-s", "-1"]),
        ({"drain_s": float("nan")}, ["--drain-s", "nan"]),
        ({"start_s": 0.0}, ["--start-s", "0"]),
        ({"encode_threads": 0}, ["--encode-threads", "0"]),
    ],
)
def test_serve_config_names_the_option_that_is_wrong(settings: dict[str, Any], words: list[str]):
    with pytest.raises(ConfigError) as caught:
        ServeConfig(**settings)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("name", ["max_count", "max_stream_count", "max_calls"])
@pytest.mark.parametrize("value", [0, -1, 2**40])
def test_limits_are_positive(name: str, value: int):
    option = "--" + name.replace("_", "-")
    with pytest.raises(ConfigError, match=f"{option} must be within .* got {value}"):
        Limits(**{name: value})


def test_every_port_may_be_0_at_the_same_time():
    config = ServeConfig(port=0, triton_grpc_port=0, triton_http_port=0, triton_metrics_port=0)
    assert config.port == 0


@given(
    port=st.integers(0, 65535),
    drain_s=st.floats(0, 3600),
    name=st.none() | st.text(min_size=1, max_size=20),
    max_count=st.integers(1, 9999),
)
def test_service_config_survives_the_way_to_the_child(port: int, drain_s: float, name: str | None, max_count: int):
    config = ServiceConfig(
        repository=Path("/models"),
        triton="[::1]:8001",
        config_name=name,
        port=port,
        drain_s=drain_s,
        limits=Limits(max_count=max_count),
    )
    assert ServiceConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "change", [{"prot": 1}, {"limits": {"max_cuont": 5}}, {"port": "many"}, {"limits": {"max_count": 0}}]
)
def test_service_config_is_parsed_strictly(change: dict[str, Any]):
    values = {"repository": "/models", "triton": "localhost:8001"} | change
    with pytest.raises(ConfigError, match="configuration is wrong at"):
        ServiceConfig.from_json(json.dumps(values))


def test_described_settings_are_plain_and_complete():
    described = ServeConfig().describe()
    assert described["max_count"] == 256
    assert described["repository"] == "model_repository"
    assert "limits" not in described
    assert json.dumps(described)


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1:5"), ("::1", "[::1]:5"), ("box", "box:5")])
def test_address_puts_brackets_around_ipv6(host: str, address: str):
    assert address_of(host, 5) == address
