from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.triton.process import Ports, TritonOptions, TritonProcess, command, reachable


def arguments(*, has_gpu: bool = False, **options: Any) -> list[str]:
    made = TritonOptions(repository=Path("models"), models=("a", "a-decode"), **options)
    return command(made, Ports(grpc=1, http=2, metrics=3), Path("/b"), "region-", has_gpu=has_gpu)


def test_command_loads_the_named_models_and_no_other() -> None:
    flags = arguments()
    assert "--model-control-mode=explicit" in flags
    assert [flag for flag in flags if flag.startswith("--load-model")] == ["--load-model=a", "--load-model=a-decode"]
    assert "--exit-on-error=false" in flags


def test_command_binds_every_endpoint_to_the_host() -> None:
    flags = arguments(host="10.0.0.1")
    assert {f"--{end}-address=10.0.0.1" for end in ("grpc", "http", "metrics")} <= set(flags)
    assert {"--grpc-port=1", "--http-port=2", "--metrics-port=3"} <= set(flags)


def test_command_gives_the_repository_as_an_absolute_path() -> None:
    assert f"--model-repository={Path('models').absolute()}" in arguments()


def test_command_names_the_configuration_and_strictness_only_when_asked() -> None:
    assert {"--model-config-name=gpu", "--disable-auto-complete-config"} <= set(
        arguments(config_name="gpu", strict_config=True)
    )
    assert not any(flag.startswith(("--model-config-name", "--disable-auto")) for flag in arguments())


def test_command_pins_memory_and_measures_gpus_only_where_there_is_one() -> None:
    assert {"--pinned-memory-pool-byte-size=0", "--allow-gpu-metrics=false"} <= set(arguments())
    assert "--allow-gpu-metrics=true" in arguments(has_gpu=True)
    assert not any(flag.startswith("--pinned") for flag in arguments(has_gpu=True))


@pytest.mark.parametrize(("host", "address"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.1", "10.0.0.1")])
def test_reachable_address_of_a_server_that_listens_everywhere_is_loopback(host: str, address: str) -> None:
    assert reachable(host) == address


def test_process_that_was_not_started_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    triton = TritonProcess(TritonOptions(repository=tmp_path, models=()))
    for ask in (lambda: triton.ports, lambda: triton.pid, triton.poll):
        with pytest.raises(RuntimeError, match="not started"):
            ask()
    triton.stop()


def test_everything_but_inference_asks_for_the_secret_and_statistics_unless_they_are_open() -> None:
    closed = "shared-memory,model-repository,statistics,trace,logging:ganvas-secret=s"
    for opened, wanted in ((False, closed), (True, closed.replace("statistics,", ""))):
        flags = arguments(secret="s", open_statistics=opened)
        assert {f"--http-restricted-api={wanted}", f"--grpc-restricted-protocol={wanted}"} <= set(flags)
    assert not any("restricted" in flag for flag in arguments())
