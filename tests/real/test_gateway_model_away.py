"""A model whose process dies is UNAVAILABLE to those who call Triton through the gateway, until it is back."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import psutil
import pytest

from clients.bench.targets import DIRECT_METHOD, direct_request
from clients.processes import parts_of
from tests.support.serve import running_serve

pytestmark = [pytest.mark.triton, pytest.mark.slow]

PATIENCE_S = 120.0
ANSWER_S = 60.0
STREAK = 20


def test_direct_calls_are_unavailable_while_their_model_is_loaded_anew(model_repository: Path, tmp_path: Path) -> None:
    with running_serve(model_repository, tmp_path, "--log-level=error") as serve:
        request = direct_request("tiny-gan", [7], labels=[7])
        with grpc.insecure_channel(serve.ready["service"]) as channel:
            infer = channel.unary_unary(DIRECT_METHOD, None, None)
            assert infer(request, timeout=ANSWER_S)
            answers: list[str] = []
            deadline_s = time.monotonic() + PATIENCE_S
            while "UNAVAILABLE" not in answers:  # who calls too late finds it back already
                parts = parts_of(serve.process.pid)
                next(process for process in parts["stub"] if "tiny-gan_" in _command(process)).kill()
                since_kill: list[str] = []
                while since_kill[-STREAK:] != ["OK"] * STREAK:
                    assert time.monotonic() < deadline_s, answers
                    try:
                        infer(request, timeout=ANSWER_S)
                        since_kill.append("OK")
                    except grpc.RpcError as error:
                        since_kill.append(error.code().name)
                    time.sleep(0.05)
                answers += since_kill
    assert set(answers) == {"OK", "UNAVAILABLE"}


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
