"""Where the studio may listen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clients.studio.options import StudioOptions
from serving.options import ServeOptions


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "0.0.0.0"}, "--host 0.0.0.0 is beyond loopback: add --tls-cert and --tls-key; or --insecure."),
        ({"tls_cert": Path("c.pem")}, "belong together"),
        ({"tls_client_ca": Path("ca.pem")}, "--tls-client-ca needs --tls-cert and --tls-key"),
        ({"host": "0.0.0.0", "api_key": "k"}, "everybody call with your key"),
    ],
)
def test_exposing_the_studio_needs_what_the_service_needs(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        StudioOptions(**options)


def test_insecure_lifts_it_and_loopback_needs_nothing() -> None:
    assert StudioOptions(host="0.0.0.0", insecure=True).insecure
    assert not StudioOptions(host="::1").insecure


def test_serve_has_one_port_for_each_and_no_tls_for_http() -> None:
    with pytest.raises(ValidationError, match="--http and --port are both 8080"):
        ServeOptions(http=8080, port=8080)
    with pytest.raises(ValidationError, match="--http speaks no TLS"):
        ServeOptions(http=8080, tls_cert=Path("c"), tls_key=Path("k"))
    assert ServeOptions(http=0).addresses()["--http"] == ("127.0.0.1", 0)
    assert "--http" not in ServeOptions().addresses()
