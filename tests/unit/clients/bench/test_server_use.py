"""What the machine tells of a server, by a nvidia-smi and counters of our own making."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from clients.bench import power, server_use
from clients.bench.here import is_here, serve_pid
from clients.bench.power import GpuWatch, energy_j, read_energy
from clients.bench.server_use import Watch
from clients.bench.subject import Subject
from clients.bench.targets import Target


def zone(folder: Path, name: str, kind: str, counter: int, most: int = 1_000_000_000) -> Path:
    path = folder / name
    path.mkdir(exist_ok=True)
    for file, text in (("name", kind), ("energy_uj", str(counter)), ("max_energy_range_uj", str(most))):
        (path / file).write_text(f"{text}\n")
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages with parts, and a nvidia-smi whose second answer differs from the first."""
    monkeypatch.setattr(power, "RAPL", tmp_path)
    monkeypatch.setattr(power, "INTERVAL_S", 0.05)
    zone(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 7)
    zone(tmp_path, "intel-rapl:2", "psys", 7)
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --id=0 ] || exit 1\nif [ -e {tmp_path}/asked ]; then echo "H200, 90, 2000, [N/A]"; '
        f'else : > {tmp_path}/asked; echo "H200, 30, 1000, 100.0"; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_energy_is_of_every_package_and_a_counter_may_wrap(machine: Path) -> None:
    before = read_energy()
    assert {path.name for path in before} == {"intel-rapl:0", "intel-rapl:1"}
    zone(machine, "intel-rapl:0", "package-0", 2_000_000)
    zone(machine, "intel-rapl:1", "package-1", 9_000_000)
    assert energy_j(before, read_energy(), 1.0) == pytest.approx(3.0 + 4.0)
    # So long that it may have wrapped more than once.
    assert energy_j(before, read_energy(), 3.0) is None
    assert energy_j({}, {}, 1.0) is None


def test_gpu_is_the_mean_of_what_was_told_during_the_load(machine: Path) -> None:
    watch = GpuWatch()
    while len(watch.samples) < 3:
        assert watch.is_alive()
        time.sleep(0.01)
    found = watch.end()
    assert found is not None
    assert found.use_percent == pytest.approx(30 + 60 * (len(watch.samples) - 1) / len(watch.samples))
    assert found.power_w == 100.0  # [N/A] is no number
    (machine / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert GpuWatch().end() is None
    (machine / "nvidia-smi").unlink()
    assert GpuWatch().end() is None


def test_what_this_machine_takes_is_only_of_a_server_that_is_here(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "INTERVAL_S", 600.0)
    now_s = 100.0
    monkeypatch.setattr(server_use, "time", SimpleNamespace(monotonic=lambda: now_s))
    targets = {
        "here": Target(kind="kserve", model="m", address="127.0.0.1:1"),
        "away": Target(kind="http", model="m", address="http://192.0.2.1:8000/x"),
    }
    subject = Subject(model="m", targets=targets)
    watch, other = Watch(subject, "here"), Watch(subject, "away")
    zone(machine, "intel-rapl:1", "package-1", 9_000_000)
    now_s += 0.5
    use, nothing = watch.end(num_images=8), other.end(num_images=8)
    assert use.energy_j_per_image == pytest.approx(0.5)
    assert use.gpu_j_per_image == pytest.approx(100 * 0.5 / 8)
    # A load shorter than the interval is asked once, after it.
    assert use.gpu == "H200, 30 %, 1000 MiB, 100 W, 6.25 J/image"
    assert (nothing.energy_j_per_image, nothing.gpu) == (None, None)


def test_only_a_serve_that_listens_here_is_found(tmp_path: Path) -> None:
    assert is_here("localhost:1")
    assert is_here("[::1]:1")
    assert is_here("http://127.0.0.1:1/x")
    assert not is_here("192.0.2.1:1")
    assert not is_here("no..name:1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert serve_pid(f"127.0.0.1:{listening.getsockname()[1]}") is None
    listens = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
    )
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {listens!r}])"
    command = [sys.executable, "-c", starts, "serving", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serve:
        assert serve.stdout is not None
        port = int(serve.stdout.readline())
        assert serve_pid(f"127.0.0.1:{port}") == serve.pid
        assert serve_pid(f"192.0.2.1:{port}") is None
        socket.create_connection(("127.0.0.1", port)).close()
