"""Peers to compare with, and PyTorch in process: each gives the golden images of the file that it serves."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from clients.bench import peers
from clients.bench.load import LoadJob
from clients.bench.peers import FOLDER, PEERS, VENV, running_peer
from clients.bench.subject import PYTORCH_ENTRY, PYTORCH_LEVELS
from clients.bench.targets import Target, WrongAnswerError, connect, golden_rows
from ganvas_core.certificate import Certificate
from tests.support.load import run_in_time

SERVER = f"""
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
sys.path.insert(0, {str(FOLDER)!r})
from model import Model
model = Model()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (image,) = model.images([json.loads(body)])
        self.send_response(200)
        self.send_header("Content-Length", str(len(image)))
        self.end_headers()
        self.wfile.write(image)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def target(model_repository: Path, **fields: Any) -> Target:
    certificate = Certificate.read(model_repository / "tiny-gan" / "1")
    common = {"model": "tiny-gan", "num_labels": 10, "golden": golden_rows(certificate), "wait_s": 60.0}
    return Target(**{**common, **fields})


@pytest.mark.parametrize("name", ["the computing of both", "mosec", "litserve"])
def test_a_peer_gives_the_golden_images_and_is_stopped(
    name: str, model_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in PEERS and not (VENV / "installed.txt").exists():
        pytest.skip(f"{name} is not installed: ./ganvas bench --target {name} installs it into {VENV}")
    if name not in PEERS:
        script = tmp_path / "server.py"
        script.write_text(SERVER)
        ours = peers._Script(file=str(script), path="/", arguments=lambda port: [str(port)])
        monkeypatch.setitem(PEERS, name, ours)
        monkeypatch.setattr(peers, "_python", lambda: sys.executable)
    with running_peer(name, model_repository / "tiny-gan" / "1" / "model.onnx", threads=1) as peer:
        peer_target = target(model_repository, kind="http", address=peer.url)
        job = LoadJob(target=peer_target, kind="closed", seconds=0.5)
        report = run_in_time(job, lambda report: report.num_ok > 0 and report.num_checked > 0)
        assert os.getpgid(peer.pid) == peer.pid
    assert set(report.endings) == {"OK"}
    assert not psutil.pid_exists(peer.pid)


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_pytorch_gives_the_images_of_the_export(
    mode: str, model_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tests.support.repository import NETWORKS
    from training.untrained import save_untrained

    compiled: list[Any] = []

    def compile_(network: Any, **_: object) -> Any:
        compiled.append(network)
        return network

    # What it makes is PyTorch's; it takes a minute.
    monkeypatch.setattr(torch, "compile", compile_)
    save_untrained(tmp_path / "same", family="dcgan", network=NETWORKS["tiny-gan"], seed=0)  # as the repository's
    save_untrained(tmp_path / "other", family="dcgan", network=NETWORKS["tiny-gan"], seed=1)
    fields = {"kind": "process", "entry": PYTORCH_ENTRY, "mode": mode, "tolerance_levels": PYTORCH_LEVELS}
    fields["reference"] = str(model_repository / "tiny-gan" / "1" / "model.onnx")

    async def ask(checkpoint: Path) -> int:
        connection = await connect(target(model_repository, **fields, address=str(checkpoint)))
        for _ in range(9):
            connection.check(await connection.call(60.0))
        return connection.num_checked

    assert asyncio.run(ask(tmp_path / "same")) == 2
    assert len(compiled) == (mode == "compiled")
    with pytest.raises(WrongAnswerError, match="an image differs from ONNX Runtime's by"):
        asyncio.run(ask(tmp_path / "other"))
