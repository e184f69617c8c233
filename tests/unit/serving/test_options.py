"""Options of serve: checked by name, handed to the child process whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ganvas_core.cli import changed_options, describe_validation_error, options_of
from serving.options import ServeOptions, address_of


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": -1}, "--port must be within [0, 65535]; got -1."),
        ({"port": 65536}, "--port must be within [0, 65535]; got 65536."),
        ({"triton_http_port": 70000}, "--triton-http-port must be within [0, 65535]; got 70000."),
        ({"port": 8001}, "--triton-grpc-port and --port are both 8001; give each its own, or 0."),
        ({"drain_s": -1.0}, "--drain-s must be within [0, 3600]; got -1.0."),
        ({"drain_s": float("nan")}, "--drain-s must be a finite number within [0, 3600]; got nan."),
        ({"start_s": 0.0}, "--start-s must be within [1, 86400]; got 0.0."),
        ({"encode_threads": 0}, "--encode-threads must be within [1, 256]; got 0."),
        ({"max_count": 0}, "--max-count must be within [1, 2147483647]; got 0."),
        ({"max_stream_count": 2**40}, "--max-stream-count must be within [1, 2147483647]; got 1099511627776."),
        ({"max_calls": -1}, "--max-calls must be within [1, 2147483647]; got -1."),
        ({"prot": 1}, "prot is unknown."),
    ],
)
def test_serve_options_name_the_option_that_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ServeOptions(**settings)
    assert describe_validation_error(caught.value, options_of(ServeOptions)) == message


def test_every_port_may_be_0_at_the_same_time() -> None:
    options = ServeOptions(port=0, triton_grpc_port=0, triton_http_port=0, metrics_port=0)
    assert options.port == 0


@given(
    port=st.integers(0, 7999),
    drain_s=st.floats(0, 3600),
    name=st.none() | st.text(min_size=1, max_size=20),
    max_count=st.integers(1, 9999),
)
def test_serve_options_survive_the_way_to_the_service(
    port: int, drain_s: float, name: str | None, max_count: int
) -> None:
    options = ServeOptions(
        repository=Path("/models"), config_name=name, port=port, drain_s=drain_s, max_count=max_count
    )
    adapter = TypeAdapter(ServeOptions)
    assert adapter.validate_json(adapter.dump_json(options)) == options


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1:5"), ("::1", "[::1]:5"), ("box", "box:5")])
def test_address_puts_brackets_around_ipv6(host: str, address: str) -> None:
    assert address_of(host, 5) == address


TLS = {"tls_cert": Path("cert.pem"), "tls_key": Path("key.pem")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"host": "0.0.0.0"},
            "--host 0.0.0.0 is beyond loopback: add --tls-cert and --tls-key, and --keys-file or --tls-client-ca; "
            "or --insecure.",
        ),
        ({"host": "::", **TLS}, "--host :: is beyond loopback: add --keys-file or --tls-client-ca; or --insecure."),
        (
            {"host": "192.0.2.1", "keys_file": Path("keys.json")},
            "--host 192.0.2.1 is beyond loopback: add --tls-cert and --tls-key; or --insecure.",
        ),
        ({"tls_cert": Path("cert.pem")}, "--tls-cert and --tls-key belong together; give both."),
        ({"tls_client_ca": Path("ca.pem")}, "--tls-client-ca needs --tls-cert and --tls-key."),
        (
            {"gateway": False, "host": "0.0.0.0", "insecure": True},
            "--no-gateway listens on loopback only; got --host 0.0.0.0.",
        ),
        ({"gateway": False, "keys_file": Path("k")}, "--no-gateway has neither TLS nor keys; leave it out."),
    ],
)
def test_serve_does_not_listen_beyond_loopback_by_mistake(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ServeOptions(**settings)
    assert describe_validation_error(caught.value, options_of(ServeOptions)) == message


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "localhost"},
        {"host": "127.0.0.2"},
        {"host": "::1"},
        {"host": "0.0.0.0", "insecure": True},
        {"host": "0.0.0.0", **TLS, "keys_file": Path("keys.json")},
        {"host": "0.0.0.0", **TLS, "tls_client_ca": Path("ca.pem")},
    ],
)
def test_serve_listens_where_it_is_safe_or_wanted(settings: dict[str, Any]) -> None:
    assert ServeOptions(**settings).host == settings["host"]


def test_a_host_that_does_not_resolve_is_not_asked_for_tls() -> None:
    with pytest.raises(ValidationError) as caught:
        ServeOptions(host="example.invalid")
    message = describe_validation_error(caught.value, options_of(ServeOptions))
    assert message.startswith("--host example.invalid does not resolve (")
    assert message.endswith("). Give an address of this machine.")


def test_changed_options_are_shown_as_they_are_typed() -> None:
    options = ServeOptions(host="0.0.0.0", insecure=True, gateway=True, log_dir=Path("my logs"), drain_s=5.0)
    assert changed_options(options) == ["--host 0.0.0.0", "--insecure", "--drain-s 5.0", "--log-dir 'my logs'"]
    assert changed_options(ServeOptions(gateway=False)) == ["--no-gateway"]
