"""Get one file of a known size and hash from the network."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ganvas_core.cli import UserError

__all__ = ["Download", "DownloadError", "fetch"]

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0


class DownloadError(UserError):
    """The file cannot be had, or is not the one that was expected."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that never changes."""

    urls: Sequence[str]
    """Where it is, in the order in which to try."""
    num_bytes: int
    sha256: str


def fetch(download: Download, on_bytes: Callable[[int], None] = lambda num_bytes: None) -> bytes:
    """The whole file, checked.

    Args:
        on_bytes: called with the number of bytes that have come so far.
    Raises:
        DownloadError: no address answers, or what comes has another size or hash.
    """
    failures = []
    for url in download.urls:
        try:
            data = _read(url, download.num_bytes, on_bytes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url}: {_reason(error)}")
            continue
        found = hashlib.sha256(data).hexdigest()
        if found == download.sha256:
            return data
        failures.append(f"{url}: {len(data)} bytes with SHA-256 {found[:16]}…, expected {download.num_bytes} bytes "
                        f"with {download.sha256[:16]}…")  # fmt: skip
    raise DownloadError(
        f"cannot get the file: {'; '.join(failures)}. Check the network and its proxy (https_proxy), then run the same "
        "command again; digits and patches need no network."
    )


def _read(url: str, num_bytes: int, on_bytes: Callable[[int], None]) -> bytes:
    """At most one byte more than is expected, so that a wrong answer fills no memory."""
    if not url.startswith(("https://", "http://")):
        raise ValueError("not a web address")
    parts, so_far = [], 0
    request = urllib.request.Request(url, headers={"User-Agent": "ganvas"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        while so_far <= num_bytes and (part := response.read(min(CHUNK_BYTES, num_bytes + 1 - so_far))):
            parts.append(part)
            so_far += len(part)
            on_bytes(so_far)
    return b"".join(parts)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__
