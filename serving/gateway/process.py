"""A gateway subprocess: configured, validated, started, watched, changed while it runs, drained and stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import logging
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ganvas_core.cli import UsageError, UserError
from ganvas_core.files import write_atomic
from serving.child import log_tail, spawn
from serving.gateway.admin import TIMEOUT_S, Admin
from serving.gateway.bootstrap import ADMIN_SOCKET, BOOTSTRAP, changing_files, fixed_files, whole
from serving.gateway.clusters import SERVICE, TRITON_HTTP
from serving.gateway.install import find_envoy
from serving.gateway.settings import GatewaySettings, Tls
from serving.keys.store import Key, KeysFileError, read_keys

__all__ = ["GatewayError", "GatewayProcess", "check_tls"]

POLL_S = 0.05
KEYS_POLL_S = 0.5
VALIDATE_TIMEOUT_S = 60.0
CHANGE_TIMEOUT_S = 10.0
EXIT_S = 0.5
FILE_DESCRIPTORS_SPARE = 1024
NO_FILE = (-1, -1, -1)
"""What no keys file looks like, a missing one neither."""

logger = logging.getLogger("ganvas.gateway")


class GatewayError(UserError):
    """The gateway cannot be started, or has ended."""


class GatewayProcess:
    """One run of Envoy. Any thread may use it; it listens at once and answers UNAVAILABLE for what is not there yet.

    Args:
        folder: empty or missing, for its configuration, its sockets and, without a log_dir, its log.
        settings: its keys are used while the keys file cannot be.
        keys_file: followed while it runs: a change is taken over within a second, without a dropped connection.
    """

    def __init__(self, settings: GatewaySettings, folder: Path, *, keys_file: Path | None = None) -> None:
        self.settings = settings
        self.folder = folder.absolute()
        self.keys_file = keys_file
        self.admin = Admin(self.folder / ADMIN_SOCKET)
        self.port = settings.port
        """Where it listens; known once it is ready."""
        self.keys_ok = False
        """Whether the keys in use are those of the keys file as it is now."""
        self._keys_seen: tuple[int, int, int] | None = NO_FILE
        self._keys_told: object = None
        """The file and the error that were logged last; None while the file is in use."""
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._hurried = threading.Event()
        self._changing = threading.Lock()

    def start(self) -> None:
        """Write its configuration, have Envoy check it, start Envoy; returns once the process exists.

        Raises:
            UserError: no Envoy, a port that is taken, a certificate or a keys file that is none.
        """
        if self._process is not None:
            raise RuntimeError("this gateway was started before; make a new GatewayProcess.")
        envoy = find_envoy()
        if self.settings.tls is not None:
            check_tls(self.settings.tls)
        if self.keys_file is not None:
            self._read_keys(self.keys_file)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        for name, data in (
            fixed_files(self.settings, self.folder) | changing_files(self.settings, self.folder)
        ).items():
            write_atomic(self.folder / name, data)
        self._validate(envoy)
        _raise_descriptor_limit(self.settings.max_connections)
        command = [
            *(str(envoy), "-c", BOOTSTRAP, "--concurrency", str(self.settings.workers)),
            *("--log-path", str(self.log_file), "--log-level", "warning"),
            # Hot restart would keep shared memory that a killed Envoy leaves behind.
            "--disable-hot-restart",
        ]
        try:
            self._process = spawn(command, name="gateway", cwd=self.folder, own_log=self.log_file)
        except OSError as error:
            raise GatewayError(f"Envoy cannot be started: {error}.") from None
        if self.keys_file is not None:
            threading.Thread(target=self._follow_keys, name="gateway-keys", daemon=True).start()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until it listens.

        Raises:
            GatewayError: it ended, or did not listen in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.admin.is_ready():
            if (code := self.poll()) is not None:
                raise GatewayError(f"the gateway ended with exit code {code}. Its log ends:\n{self.log_tail()}")
            if time.monotonic() >= deadline:
                raise GatewayError(
                    f"the gateway was not ready within {timeout_s:g} s. Its log ends:\n{self.log_tail()}"
                )
            time.sleep(POLL_S)
        try:
            self.port = self.admin.port("gateway") or self.port
        except (OSError, http.client.HTTPException, ValueError) as error:  # it ended while it answered
            raise GatewayError(f"the gateway does not answer: {error}. Its log ends:\n{self.log_tail()}") from None

    def sees_all_well(self) -> bool:
        """Whether the service and Triton have answered its probes: /v2/health/ready is then 200."""
        try:
            seen = self.admin.stats(rf"^cluster\.({SERVICE}|{TRITON_HTTP})\.membership_healthy$")
        except (OSError, http.client.HTTPException):
            return False
        return len(seen) == 2 and all(seen.values())

    @property
    def pid(self) -> int | None:
        """None before it is started."""
        return None if self._process is None else self._process.pid

    @property
    def log_file(self) -> Path:
        """Envoy's own log: warnings and errors."""
        return (self.settings.log_dir or self.folder).absolute() / "envoy.log"

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._running().poll()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._running().wait()

    def update(self, *, timeout_s: float = CHANGE_TIMEOUT_S, **changes: object) -> None:
        """Change keys, addresses behind it or limits of requests while it runs; connections and streams stay. New
        addresses take over once they have answered a probe.

        Args:
            timeout_s: for each file that changes.
            changes: fields of GatewaySettings. host, port, tls, connections and logs cannot change.
        Raises:
            GatewayError: Envoy did not take them over; it goes on with what it had.
        """
        if not self._changing.acquire(timeout=timeout_s):
            raise GatewayError("Envoy has not taken over what was changed before.")
        try:
            settings = dataclasses.replace(self.settings, **changes)  # type: ignore[arg-type]
            if fixed_files(settings, self.folder) != fixed_files(self.settings, self.folder):
                raise GatewayError("this needs a restart of the gateway.")
            before, after = (changing_files(it, self.folder) for it in (self.settings, settings))
            for name, kind in (("cds.json", "cluster_manager.cds"), ("rds.json", "http.gateway.rds.routes")):
                if before[name] != after[name]:
                    self._replace(name, after[name], kind, timeout_s)
            self.settings = settings
        finally:
            self._changing.release()

    def reload_keys(self) -> bool:
        """Take over the keys file if it changed; returns whether it did.

        Raises:
            KeysFileError: it cannot be used; the keys stay as they were.
            GatewayError: Envoy did not take the keys over.
        """
        assert self.keys_file is not None
        seen = _fingerprint(self.keys_file)
        if seen == self._keys_seen:
            return False
        keys: Sequence[Key] = read_keys(self.keys_file)
        self.update(keys=keys)
        self._keys_seen = seen
        return True

    def read_metrics(self) -> str:
        """Envoy's statistics in Prometheus' text format; empty while it does not answer."""
        try:
            return self.admin.metrics()
        except (OSError, http.client.HTTPException):
            return ""

    def log_tail(self) -> str:
        """The last lines of its log."""
        return log_tail(self.log_file)

    def stop(self, grace_s: float = 10.0) -> None:
        """Turn direct calls away, wait until every reply has left (at most grace_s), then end it.

        Other requests are taken until then: what is behind has to refuse them.

        Does nothing if nothing runs.
        """
        self._stopped.set()
        if self._process is None:
            return
        deadline = time.monotonic() + grace_s
        self._ask_until(deadline)
        with contextlib.suppress(GatewayError, OSError, http.client.HTTPException):
            if self.poll() is None:
                self.drain(grace_s)
        self._ask_until(deadline)
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.admin.drain()
            while self.poll() is None and time.monotonic() < deadline and self._is_busy():
                if self._hurried.wait(POLL_S):
                    break
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def drain(self, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Turn direct calls away from now on; those under way go on.

        Raises:
            GatewayError, OSError, http.client.HTTPException: Envoy did not take it over.
        """
        self.update(draining=True, timeout_s=min(timeout_s, CHANGE_TIMEOUT_S))

    def hurry(self) -> None:
        """Have `stop` wait for replies no longer."""
        self._hurried.set()

    def _ask_until(self, deadline: float) -> None:
        """Give its answers no longer: it may hang."""
        left_s = max(POLL_S, deadline - time.monotonic())
        self.admin = Admin(self.folder / ADMIN_SOCKET, min(TIMEOUT_S, left_s))

    def _read_keys(self, path: Path) -> None:
        """The keys to start with."""
        self._keys_seen = _fingerprint(path)
        try:
            self.settings = dataclasses.replace(self.settings, keys=read_keys(path))
            self.keys_ok = True
        except KeysFileError:
            if self.settings.keys is None:
                raise
            self._keys_seen = NO_FILE  # so that whoever follows the file reads it, and says what is wrong

    def _is_busy(self) -> bool:
        """Whether a request is being answered, or bytes wait for a client."""
        return any(self.admin.stats(r"^http\.gateway\.downstream_(rq_active|cx_tx_bytes_buffered)$").values())

    def _validate(self, envoy: Path) -> None:
        path = self.folder / "check.json"
        write_atomic(path, whole(self.settings, self.folder))
        command = [str(envoy), "-c", path.name, "--mode", "validate", "--disable-hot-restart", "-l", "error"]
        try:
            result = subprocess.run(
                command, cwd=self.folder, capture_output=True, text=True, timeout=VALIDATE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise GatewayError(f"Envoy did not check its configuration within {VALIDATE_TIMEOUT_S:g} s.") from None
        if result.returncode != 0:
            words = (result.stderr or result.stdout).strip().splitlines()
            raise GatewayError(f"Envoy rejects its configuration: {words[-1] if words else 'no reason given'}")

    def _replace(self, name: str, data: bytes, kind: str, timeout_s: float) -> None:
        """Replace a file and wait until Envoy says what it makes of it."""
        pattern = rf"^{kind}\.update_(success|rejected|failure)$"
        before = self.admin.stats(pattern)
        write_atomic(self.folder / name, data)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self._hurried.is_set():
            now = self.admin.stats(pattern)
            if now.get(f"{kind}.update_success", 0) > before.get(f"{kind}.update_success", 0):
                return
            for outcome in ("rejected", "failure"):
                if now.get(f"{kind}.update_{outcome}", 0) > before.get(f"{kind}.update_{outcome}", 0):
                    raise GatewayError(f"Envoy rejects {name}. Its log ends:\n{self.log_tail()}")
            time.sleep(POLL_S)
        raise GatewayError(f"Envoy did not read {name} within {timeout_s:g} s.")

    def _follow_keys(self) -> None:
        while not self._stopped.wait(KEYS_POLL_S) and self.poll() is None:
            self.look_at_keys()

    def look_at_keys(self) -> None:
        """Take over the keys file if it changed; log what comes of it, a failure once for each change of the file."""
        assert self.keys_file is not None
        seen = _fingerprint(self.keys_file)
        try:
            reloaded = self.reload_keys()
        except Exception as error:  # any: or the following would end, and keys_ok stay as it was
            self.keys_ok = False
            told = (seen, str(error))
            if told != self._keys_told:
                foreseen = isinstance(error, UserError | OSError | http.client.HTTPException)
                logger.warning("event=keys-not-reloaded reason=%r", str(error), exc_info=not foreseen)
            self._keys_told = told
        else:
            if reloaded or self._keys_told is not None:
                logger.info("event=keys-reloaded keys=%d", len(self.settings.keys or ()))
            self.keys_ok, self._keys_told = True, None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this gateway was not started.")
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        process = self._running()
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    """Differs when the file was replaced or written to."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def check_tls(tls: Tls) -> None:
    """Envoy would wait for files that it cannot use until they are there.

    Raises:
        UsageError: names the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (OSError, ValueError) as error:
        raise UsageError(f"--tls-cert {tls.certificate}, --tls-key {tls.key}: {_reason(error)}.") from None
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except (OSError, ValueError) as error:
            raise UsageError(f"--tls-client-ca {tls.client_ca}: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """OpenSSL's words without its numbers: "key values mismatch"."""
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "no PEM file that can be used"
    return str(getattr(error, "strerror", None) or error)


def _raise_descriptor_limit(connections: int) -> None:
    """Envoy inherits our limit of open files: two for each connection, as far as the hard limit goes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + FILE_DESCRIPTORS_SPARE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
