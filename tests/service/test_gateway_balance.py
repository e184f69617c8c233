"""One gateway before several services: all of them work, and one that goes costs no call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.gateway.process import GatewayProcess
from serving.gateway.settings import GatewaySettings
from serving.repository.reader import Repository
from tests.support.gateway import channel, eventually, sampler
from tests.support.kserve import KServe
from tests.support.service import LoopThread, Service, running_service, sample_request

READY_S = 60.0
TIMEOUT_S = 60.0


def test_calls_are_spread_over_services_and_go_to_the_other_when_one_is_gone(
    loop_thread: LoopThread, repository: Repository, peer: KServe, tmp_path: Path
) -> None:
    with (
        running_service(loop_thread, repository, peer.address) as one,
        running_service(loop_thread, repository, peer.address) as other,
    ):
        settings = GatewaySettings(port=0, service=[one.address, other.address], triton_grpc=[peer.address])
        gateway = GatewayProcess(settings, tmp_path / "gateway")
        gateway.start()
        try:
            gateway.wait_ready(READY_S)
            # One that has not been probed yet would get no call.
            eventually(lambda: gateway.admin.stats(r"^cluster\.service\.membership_healthy$").popitem()[1] == 2)
            expected = list(one.stub.Sample(sample_request(3)).images)

            def same(_: int) -> bool:
                # On connections of their own, as clients are.
                with channel(gateway.port) as opened:
                    return list(sampler(opened).Sample(sample_request(3), timeout=TIMEOUT_S).images) == expected

            with ThreadPoolExecutor(8) as callers:
                assert all(callers.map(same, range(60)))
                eventually(lambda: answered(one) + answered(other) == 61)
                assert min(answered(one), answered(other)) >= 10
                so_far = answered(other)
                loop_thread.run(one.server.stop())
                assert all(callers.map(same, range(60)))
                eventually(lambda: answered(other) == so_far + 60)
        finally:
            gateway.stop(2.0)


def answered(service: Service) -> int:
    """Sample calls that have ended."""
    name = 'ganvas_requests_total{code="OK",method="Sample"} '
    lines = service.server.metrics.text().splitlines()
    return sum(int(float(line.removeprefix(name))) for line in lines if line.startswith(name))
