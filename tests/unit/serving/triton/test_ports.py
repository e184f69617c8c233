from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from serving.triton.ports import PortError, choose_ports, port_problem

HOST = "127.0.0.1"
NUM_TRIES = 20


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_ports_chosen_for_zeros_are_free_and_distinct() -> None:
    for _ in range(NUM_TRIES):  # another process may be given one of them before it is looked at
        chosen = choose_ports(dict.fromkeys("abcdefgh", (HOST, 0)))
        assert len(set(chosen.values())) == 8
        problems = [port_problem("--port", HOST, port) for port in chosen.values()]
        if not any(problems):
            return
    pytest.fail(f"never were all of them free: {problems}")


def test_ports_keep_their_option_and_value_when_fixed(reserved: int) -> None:
    chosen = choose_ports({"--free": (HOST, 0), "--fixed": (HOST, reserved)})
    assert list(chosen) == ["--free", "--fixed"]
    assert chosen["--fixed"] == reserved != chosen["--free"]


def test_ports_name_the_option_and_the_way_out_when_taken(taken: int) -> None:
    with pytest.raises(PortError, match=rf"^--triton-http-port {taken} is in use on 127.0.0.1\. .*0 picks a free one"):
        choose_ports({"--triton-grpc-port": (HOST, 0), "--triton-http-port": (HOST, taken)})


def test_ports_reject_the_same_port_twice(reserved: int) -> None:
    with pytest.raises(PortError, match=f"^--b {reserved} is taken by another option"):
        choose_ports({"--a": (HOST, reserved), "--b": (HOST, reserved)})


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_ports_say_so_when_the_host_is_not_this_machine(host: str) -> None:
    problem = str(port_problem("--port", host, 0))
    assert problem.startswith(f"--host {host} is not an address of this machine.")
    assert str(port_problem("--triton-grpc-port", host, 0)).startswith(f"--host {host} is not")


def test_ports_are_free_again_right_after_a_connection(reserved: int) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        server.bind((HOST, reserved))
        server.listen()
        with socket.create_connection((HOST, reserved)):
            server.accept()[0].close()
    assert port_problem("--port", HOST, reserved) is None
