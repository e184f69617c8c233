"""Keys, quotas, TLS and mTLS at a real gateway before the real service and Triton."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2

from ganvas_client import Sampler, UnavailableError
from serving.gateway.process import GatewayProcess
from serving.gateway.settings import Tls
from serving.keys.store import add_key, revoke_key
from tests.support.gateway import (
    MODEL,
    SAMPLER,
    ask,
    bearer,
    channel,
    eventually,
    grpc_web,
    images_by_sampler,
    infer_json,
    infer_request,
    kserve,
    outcome,
    running_gateway,
    sampled,
    sampler,
    stream_request,
    trailer,
)
from tests.support.serve import Serve, running_serve
from tests.support.tls import make_certificates

pytestmark = [pytest.mark.triton, pytest.mark.slow]

OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
REVOKED_WITHIN_S = 2.0


@pytest.fixture(scope="module")
def repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small model."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def serve(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("serve")
    with running_serve(repository, folder) as running:
        yield running


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def studio(keys_file: Path) -> str:
    """A key without quotas."""
    return add_key(keys_file, "studio")


@pytest.fixture
def gateway(serve: Serve, tmp_path: Path, keys_file: Path, studio: str) -> Iterator[GatewayProcess]:
    with running_gateway(serve, tmp_path, keys_file=keys_file) as running:
        yield running


def test_no_path_is_open_without_a_key_but_health(gateway: GatewayProcess, studio: str) -> None:
    port = gateway.port
    wrong = studio[:-1] + ("A" if studio[-1] != "A" else "B")
    with channel(port) as opened:
        for sent in ([], bearer(wrong), bearer("x"), bearer("ganvas_00000000_x"), [("x-api-key", "x" * 5000)]):
            for call in (
                lambda sent=sent: sampler(opened).Sample(stream_request(1), metadata=sent),
                lambda sent=sent: kserve(opened).ModelInfer(infer_request([5]), metadata=sent),
            ):
                failure = outcome(call)
                assert failure.code() is UNAUTHENTICATED
                assert "authorization: Bearer KEY" in failure.details()
        for good in (bearer(studio), [("x-api-key", studio)], [("authorization", f"bearer {studio}")]):
            assert sampler(opened).Sample(stream_request(1), metadata=good).images
            assert kserve(opened).ModelInfer(infer_request([5]), metadata=good).outputs
        assert health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest()).status
        assert kserve(opened).ServerLive(service_pb2.ServerLiveRequest()).live
    eventually(lambda: ask(port, "GET", "/v2/health/ready")[0] == 200)
    assert ask(port, "GET", f"/v2/models/{MODEL}")[0] == 401
    infer = f"/v2/models/{MODEL}/infer"
    assert ask(port, "POST", infer, infer_json([5]))[0] == 401
    assert ask(port, "POST", infer, infer_json([5]), {"Authorization": f"Bearer {studio}"})[0] == 200
    assert "grpc-status: 16" in grpc_web(port, f"{SAMPLER}Sample", stream_request(1))[1]
    reply, _ = grpc_web(port, f"{SAMPLER}Sample", stream_request(1), {"x-api-key": studio})
    assert reply


def test_a_caller_cannot_name_itself_or_choose_its_way(gateway: GatewayProcess, studio: str) -> None:
    forged = [("x-ganvas-caller", "studio"), ("x-ganvas-cluster", "service")]
    with channel(gateway.port) as opened:
        assert sampled(opened, forged) is UNAUTHENTICATED
        crossed = [*bearer(studio), ("x-ganvas-cluster", "triton-grpc")]
        assert sampler(opened).Sample(stream_request(1), metadata=crossed).images


def test_keys_come_and_go_while_a_stream_runs(gateway: GatewayProcess, keys_file: Path, studio: str) -> None:
    """Adding and revoking others' keys, quotas included, breaks neither a stream nor a connection."""
    with channel(gateway.port) as opened, channel(gateway.port) as other:
        stream = sampler(opened).SampleStream(stream_request(30_000), metadata=bearer(studio))
        received = len(next(stream).images)
        connections = gateway.admin.stats("^http.gateway.downstream_cx_total$").popitem()[1]
        for name, quotas in (("one", {}), ("two", {"rate": 50, "concurrency": 4})):
            key = add_key(keys_file, name, **quotas)

            eventually(functools.partial(_gets, other, key, OK))
            revoke_key(keys_file, name)
            eventually(functools.partial(_gets, other, key, UNAUTHENTICATED))
        received += sum(len(reply.images) for reply in stream)
        after = gateway.admin.stats("^http.gateway.downstream_cx_total$").popitem()[1]
    assert received == 30_000
    assert after - connections <= 1  # `other` connects once


def _gets(opened: grpc.Channel, key: str, code: grpc.StatusCode) -> bool:
    return sampled(opened, bearer(key)) is code


def test_a_damaged_keys_file_leaves_the_keys_that_were(gateway: GatewayProcess, keys_file: Path, studio: str) -> None:
    keys_file.write_text("{")
    time.sleep(1.5)
    assert images_by_sampler(gateway.port, metadata=bearer(studio))
    keys_file.unlink()
    time.sleep(1.5)
    assert images_by_sampler(gateway.port, metadata=bearer(studio))


def test_a_rate_is_kept_on_all_paths_together_and_is_its_callers_alone(
    gateway: GatewayProcess, keys_file: Path, studio: str
) -> None:
    slow = add_key(keys_file, "slow", rate=2)
    infer = f"/v2/models/{MODEL}/infer"
    with channel(gateway.port) as opened:
        eventually(lambda: _gets(opened, slow, OK))
        time.sleep(1.2)  # the bucket is full again
        start, failures, http = time.monotonic(), [], []
        for _ in range(10):
            failures.append(outcome(lambda: sampler(opened).Sample(stream_request(1), metadata=bearer(slow))))
            failures.append(outcome(lambda: kserve(opened).ModelInfer(infer_request([5]), metadata=bearer(slow))))
            http.append(ask(gateway.port, "POST", infer, infer_json([5]), {"x-api-key": slow})[0])
            assert sampler(opened).Sample(stream_request(1), metadata=bearer(studio)).images
        passed = failures.count(None) + http.count(200)
        assert 2 <= passed <= 2 + 2 * (time.monotonic() - start) + 1
        refused = [failure for failure in failures if failure is not None]
        assert {failure.code() for failure in refused} == {EXHAUSTED}
        assert {trailer(failure, "grpc-retry-pushback-ms") for failure in refused} == {"500"}
        assert "rate quota" in refused[0].details()
        assert set(http) <= {200, 429}
    counted = (
        'envoy_ganvas_gateway_requests{caller="slow",code="200",grpc_code="RESOURCE_EXHAUSTED",flags="RL",refused=""}'
    )
    eventually(lambda: counted in gateway.read_metrics())


def test_a_concurrency_is_kept_on_all_paths_together(gateway: GatewayProcess, keys_file: Path, studio: str) -> None:
    narrow = add_key(keys_file, "narrow", concurrency=3)
    with channel(gateway.port) as opened, channel(gateway.port) as other:
        eventually(lambda: _gets(other, narrow, OK))
        streams = [sampler(opened).SampleStream(stream_request(65_000), metadata=bearer(narrow)) for _ in range(3)]
        for stream in streams:
            next(stream)
        for call in (
            lambda: sampler(other).Sample(stream_request(1), metadata=bearer(narrow)),
            lambda: kserve(other).ModelInfer(infer_request([5]), metadata=bearer(narrow)),
        ):
            failure = outcome(call)
            assert failure.code() is EXHAUSTED
            assert "--concurrency" in failure.details()
            assert trailer(failure, "grpc-retry-pushback-ms") == "500"
        infer = f"/v2/models/{MODEL}/infer"
        assert ask(gateway.port, "POST", infer, infer_json([5]), {"x-api-key": narrow})[0] == 429
        assert sampler(other).Sample(stream_request(1), metadata=bearer(studio)).images
        assert gateway.admin.stats(r"^cluster.key-narrow.circuit_breakers.default.remaining_rq$").popitem()[1] == 0
        streams[0].cancel()
        eventually(lambda: _gets(other, narrow, OK))
        for stream in streams:
            stream.cancel()


def test_a_revoked_key_is_refused_within_two_seconds(gateway: GatewayProcess, keys_file: Path) -> None:
    took_s = []
    with channel(gateway.port) as opened:
        for name in ("first", "second", "third", "fourth", "fifth", "sixth", "seventh"):
            key = add_key(keys_file, name)
            eventually(lambda key=key: _gets(opened, key, OK))  # type: ignore[misc]
            revoke_key(keys_file, name)
            revoked_s = time.monotonic()
            eventually(lambda key=key: _gets(opened, key, UNAUTHENTICATED))  # type: ignore[misc]
            took_s.append(time.monotonic() - revoked_s)
    # Four of seven: a machine that is busy for a moment is no slow gateway.
    assert statistics.median(took_s) <= REVOKED_WITHIN_S, took_s


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_and_then_mtls_with_a_renewed_certificate(serve: Serve, certificates: Path, tmp_path: Path) -> None:
    for name in ("server.pem", "server.key"):
        shutil.copy(certificates / name, tmp_path / name)
    tls = Tls(certificate=tmp_path / "server.pem", key=tmp_path / "server.key", client_ca=certificates / "ca.pem")
    ca, key, chain = ((certificates / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
    with running_gateway(serve, tmp_path, tls=tls, log_dir=tmp_path / "logs") as gateway:
        with channel(gateway.port, grpc.ssl_channel_credentials(ca, key, chain)) as opened:
            assert sampler(opened).Sample(stream_request(1)).images
        for credentials, words in (
            (grpc.ssl_channel_credentials(ca), "It may ask for a client certificate of its authority"),
            (None, "It may speak TLS: give credentials, or --tls-ca FILE"),
        ):
            with channel(gateway.port, credentials) as opened:
                assert sampled(opened) is not OK
            with (
                Sampler(f"localhost:{gateway.port}", credentials=credentials) as client,
                pytest.raises(UnavailableError, match=words),
            ):
                client.models()
        log = tmp_path / "logs" / "gateway.log"
        eventually(lambda: '"caller":"cert:painter"' in log.read_text().replace(": ", ":"))

        first = _serial(gateway.port)
        for suffix in ("key", "pem"):  # as a renewing program does: written beside, then moved
            shutil.copy(certificates / f"renewed.{suffix}", tmp_path / "new")
            (tmp_path / "new").replace(tmp_path / f"server.{suffix}")
        eventually(lambda: _serial(gateway.port) != first)
    plain = Tls(certificate=tls.certificate, key=tls.key)
    with (
        running_gateway(serve, tmp_path / "b", tls=plain) as gateway,
        channel(gateway.port, grpc.ssl_channel_credentials(ca)) as opened,
    ):
        assert kserve(opened).ModelInfer(infer_request([5])).outputs


def test_serve_takes_keys_and_tls_and_its_gateway_comes_back(
    repository: Path, certificates: Path, tmp_path: Path, keys_file: Path, studio: str
) -> None:
    arguments = [
        f"--keys-file={keys_file}",
        f"--tls-cert={certificates / 'server.pem'}",
        f"--tls-key={certificates / 'server.key'}",
    ]
    ca = grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes())
    with running_serve(repository, tmp_path, *arguments) as running:
        port = int(running.ready["service"].rpartition(":")[2])
        with channel(port, ca) as opened:
            assert sampled(opened) is UNAUTHENTICATED
            assert sampled(opened, bearer(studio)) is OK
        os.kill(running.ready["gateway_pid"], signal.SIGKILL)

        def answers() -> bool:
            with channel(port, ca) as opened:
                return sampled(opened, bearer(studio)) is OK

        eventually(answers)
        running.process.terminate()
        code, _, errors = running.end()
        assert code == 0
        assert studio not in errors


def _serial(port: int) -> str:
    import ssl

    return ssl.get_server_certificate(("127.0.0.1", port))


def test_threads_of_the_gateway_end_with_it(serve: Serve, tmp_path: Path, keys_file: Path, studio: str) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("gateway")]

    with running_gateway(serve, tmp_path, keys_file=keys_file):
        assert threads()
    eventually(lambda: not threads())
