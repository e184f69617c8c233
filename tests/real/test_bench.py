"""`./ganvas bench` over a server that it starts itself, and over one that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clients.bench.__main__ import bench
from clients.bench.result import read_result
from ganvas_core.cli import run_verbs
from serving.keys.store import add_key
from tests.support.serve import running_serve
from tests.support.tls import make_certificates

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def test_report_of_a_model_says_where_the_time_goes(model_repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clients.bench", "bench", "--model", "tiny-gan", "--out", str(tmp_path)]
    command += ["--repository", str(model_repository), "--rounds=1", "--seconds=2", "--warmup-s=0.2"]
    command += ["--scenario=closed", "--concurrency=2", "--images=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = next(tmp_path.glob("tiny-gan-*.json"))
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert path.with_suffix(".html").read_text().count("<svg") == 2  # distributions; a curve needs two points
    (subject,) = read_result(path).subjects
    rows = {row.load.target: row for row in subject.rows}
    assert set(rows) == {"direct", "service"}
    for row in rows.values():
        (measured,), (use,) = row.rounds, row.uses
        assert measured.num_failed == 0
        assert measured.num_checked > 0
        assert measured.is_verified
        assert use.batch_fill is not None
        assert use.batch_fill >= 1
        assert set(use.triton_ms) == {"queue", "input", "compute", "output"}
        assert use.cpu_share["triton"] > 0
        assert use.memory_mib["stub"] > 1
    assert rows["service"].rounds[0].timing_ms["inference"] > 0


def test_a_gateway_that_wants_a_certificate_and_a_key_is_measured(
    model_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of, key = make_certificates(tmp_path), add_key(tmp_path / "keys.json", "bench")
    monkeypatch.setenv("GANVAS_API_KEY", key)
    arguments = [
        f"--tls-cert={of / 'server.pem'}",
        f"--tls-key={of / 'server.key'}",
        f"--tls-client-ca={of / 'ca.pem'}",
    ]
    ca = f"--tls-ca={of / 'ca.pem'}"
    mine = [f"--tls-client-cert={of / 'client.pem'}", f"--tls-client-key={of / 'client.key'}"]
    with running_serve(model_repository, tmp_path, *arguments) as serve:
        address = serve.ready["service"]

        def run(*options: str) -> int:
            with pytest.raises(SystemExit) as stopped:
                run_verbs(bench, arguments=["bench", "--model=tiny-gan", "--rounds=1", "--seconds=0.5", *options])
            return int(stopped.value.code or 0)

        load = ["--warmup-s=0.2", "--scenario=closed", "--concurrency=2", "--images=1"]
        assert run("--address", address, *load, ca, *mine, f"--out={tmp_path / 'out'}") == 0
        capsys.readouterr()
        for way in ("--address", "--kserve"):
            for tls, words in (
                ([], "It may speak TLS: give credentials, or --tls-ca FILE"),
                ([f"--tls-ca={of / 'client.pem'}"], "is not trusted ("),
                ([ca], "ended the TLS connection at once. It may ask for a client certificate"),
            ):
                assert run(way, address, "--wait-s=0.5", *tls) == 1
                said = capsys.readouterr().err
                assert words in said
                assert said.count("\n") == 1
    (subject,) = read_result(next((tmp_path / "out").glob("tiny-gan-*.json"))).subjects
    measured = {row.load.target: row.rounds[0] for row in subject.rows}
    assert set(measured) == {"direct", "service"}
    assert all(entry.num_failed == 0 and entry.is_verified for entry in measured.values())
    assert not any(key in path.read_text() for path in (tmp_path / "out").iterdir())
