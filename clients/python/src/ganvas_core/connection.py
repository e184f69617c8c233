"""Why a connection cannot be made, in words that say what to do: gRPC's own are about sockets and handshakes."""

from __future__ import annotations

import re

__all__ = ["NO_CONNECTION", "connection_problem"]

NO_CONNECTION = ("failed to connect", "errors resolving", "DNS resolution failed")
"""How gRPC's details begin when a call had no connection to be made on."""

_REASON = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)")
_MEANT = {
    "sampling service": "the address that ./ganvas serve prints, whose port is --port (50051)",
    "Triton": "the port of Triton's gRPC, --triton-grpc-port (8001)",
}
_CLOSED = ("Socket closed", "Connection reset", "Broken pipe", "Unwrap failed", "Tls handshake failed")


def connection_problem(details: str, address: str, *, tls: bool, server: str = "sampling service") -> str | None:
    """What is wrong and the next step; None if the call failed for another reason than its connection.

    Args:
        details: of the failed call, whose status is UNAVAILABLE.
        tls: whether the client speaks TLS.
        server: what should answer there.
    """
    if not details.startswith(NO_CONNECTION):
        return None
    if "Failed to parse port" in details:
        return f"{address} is no address: it must be HOST:PORT."
    if not details.startswith("failed to connect"):
        return f"{address} cannot be looked up ({details}). Check the host's name."
    if "Connection refused" in details:
        return f"no {server} answers at {address} (connection refused). Start one: ./ganvas serve."
    if match := _REASON.search(details):
        return (
            f"the certificate of {address} is not trusted ({match[1].strip()}). Trust the authority that signed it: "
            "root_certificates of the credentials, or --tls-ca FILE."
        )
    if "Hostname Verification" in details:
        host = address.rpartition(":")[0]
        return f"the certificate of {address} is not for {host}. Use a name or an address that it is for."
    if "WRONG_VERSION_NUMBER" in details:
        return (
            f"what answers at {address} speaks no TLS. Leave out the credentials (--tls-ca); or give the server "
            "--tls-cert and --tls-key."
        )
    if "security handshaker" in details:
        return (
            "the certificates or the key to connect with cannot be used: each must be PEM, the key the certificate's."
        )
    if "http1.x server" in details or "Expected SETTINGS frame" in details:
        return (
            f"what answers at {address} speaks no gRPC: it may be a port of metrics or of HTTP. Give "
            f"{_MEANT.get(server, 'the port of gRPC')}."
        )
    if tls and any(sign in details for sign in _CLOSED):
        return (
            f"{address} ended the TLS connection at once. It may ask for a client certificate of its authority (mTLS): "
            "private_key and certificate_chain of the credentials, or --tls-client-cert and --tls-client-key; or it "
            "takes no more connections."
        )
    if any(sign in details for sign in _CLOSED):
        return (
            f"{address} closed the connection at once. It may speak TLS: give credentials, or --tls-ca FILE; or be "
            "a port of HTTP; or take no more connections."
        )
    return f"no {server} answers at {address} ({details}). Check the address, and that the server runs."
