"""The options of every verb that calls a server: whom to trust, and who calls."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

import grpc
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from ganvas_core.cli import OPTIONS, Cli, UsageError
from ganvas_core.names import check_address

__all__ = ["Address", "CallerOptions", "TlsOptions"]

Address = Annotated[str, AfterValidator(check_address)]
"""HOST:PORT of a server."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class TlsOptions:
    """TLS, and a client certificate (mTLS)."""

    tls_ca: Annotated[Path | None, Cli(env="GANVAS_TLS_CA")] = None
    """Speak TLS, and trust the certificate authorities of this PEM file."""
    tls_client_cert: Annotated[Path | None, Cli(env="GANVAS_TLS_CLIENT_CERT")] = None
    """Certificate chain to show to a server that asks for one (mTLS), PEM."""
    tls_client_key: Annotated[Path | None, Cli(env="GANVAS_TLS_CLIENT_KEY")] = None
    """Private key of --tls-client-cert, PEM."""

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For gRPC over TLS; None: plaintext.

        Raises:
            UsageError: an option is missing, or a file cannot be read or used.
        """
        self.context()  # says what is wrong with a file, which gRPC does not
        if self.tls_ca is None:
            return None
        ca = self.tls_ca.read_bytes()
        if self.tls_client_cert is None or self.tls_client_key is None:
            return grpc.ssl_channel_credentials(ca)
        return grpc.ssl_channel_credentials(ca, self.tls_client_key.read_bytes(), self.tls_client_cert.read_bytes())

    def context(self) -> ssl.SSLContext:
        """For HTTPS: without --tls-ca, the certificate authorities of this machine are trusted.

        Raises:
            UsageError: an option is missing, or a file cannot be read or used.
        """
        if (self.tls_client_cert is None) != (self.tls_client_key is None):
            raise UsageError("--tls-client-cert and --tls-client-key belong together; give both.")
        if self.tls_client_cert is not None and self.tls_ca is None:
            raise UsageError("--tls-client-cert needs --tls-ca: a certificate is shown over TLS alone.")
        if self.tls_ca is None:
            return ssl.create_default_context()
        _check_readable("--tls-ca", self.tls_ca)
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
        except ssl.SSLError:
            raise UsageError(f"--tls-ca {self.tls_ca} holds no certificate in PEM.") from None
        if self.tls_client_cert is None or self.tls_client_key is None:
            return context
        _check_readable("--tls-client-cert", self.tls_client_cert)
        _check_readable("--tls-client-key", self.tls_client_key)
        try:
            context.load_cert_chain(self.tls_client_cert, self.tls_client_key, password="")  # never ask for one
        except ssl.SSLError:
            raise UsageError(
                f"--tls-client-cert {self.tls_client_cert} and --tls-client-key {self.tls_client_key} must be a "
                "certificate and its key in PEM, the key not encrypted."
            ) from None
        return context


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class CallerOptions(TlsOptions):
    """TLS, a client certificate (mTLS), and the API key."""

    api_key: Annotated[str | None, Cli(env="GANVAS_API_KEY", secret=True)] = None
    """Key of the gateway: a variable only, since a list of processes shows every command line."""

    @property
    def tls(self) -> TlsOptions:
        """Without the key, as plain data for another process."""
        return TlsOptions(tls_ca=self.tls_ca, tls_client_cert=self.tls_client_cert, tls_client_key=self.tls_client_key)


def _check_readable(option: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror or error}.") from None
