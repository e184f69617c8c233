"""The demo: train, export, verify, serve, look, measure. Each step runs as its verb."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from clients.demo.errors import DemoError
from clients.demo.figures import ModelFigures, measure_model
from clients.demo.gallery import make_gallery
from clients.demo.table import print_results
from clients.demo.training import train_at_once
from clients.local_server import local_server
from ganvas_client import Sampler
from ganvas_core.files import locked

MODELS = ["digits-gan", "digits-vae"]
MARKER = ".ganvas-demo"


def run_demo(out: Path, *, seed: int, console: Console) -> None:
    """Run everything into `out`.

    Raises:
        DemoError: a step failed, `out` holds something that is not a demo's, or another demo is writing there.
        LocalServerError, BareError, GanvasError: serving, measuring or a call failed.
    """
    out = out.absolute()
    with ExitStack() as stack:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out))
        except BlockingIOError:
            raise DemoError(f"--out {out}: another ./ganvas demo is writing there. Choose another folder.") from None
        except OSError as error:
            raise DemoError(f"--out {out}: {error.strerror}.") from None
        _run(out, seed=seed, console=console)


def _run(out: Path, *, seed: int, console: Console) -> None:
    start = time.monotonic()
    # Empty `out` if an earlier demo made it; never anything else.
    if out.exists() and not (out / MARKER).exists() and (not out.is_dir() or any(out.iterdir())):
        raise DemoError(f"--out {out} exists and no demo made it. Choose an empty or a new folder.")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARKER).write_text("Made by ./ganvas demo, which replaces this folder.\n")

    # Train, export, verify.
    repository = out / "model_repository"
    console.rule("train: both at once, a core each")
    training_s = train_at_once(MODELS, out / "runs", seed=seed, console=console)
    for name in MODELS:
        checkpoint = out / "runs" / name / "checkpoint"
        _verb(console, "export", "export", str(checkpoint), "--name", name, "--repository", str(repository))
    for name in MODELS:
        _verb(console, "serving", "verify", name, "--repository", str(repository))

    # Serve, draw, measure.
    console.rule("serve: Triton and the sampling service")
    images: list[Path] = []
    figures: list[ModelFigures] = []
    with (
        local_server(repository, log_file=out / "serve.log") as server,
        Sampler(server.service, direct=False) as sampler,
    ):
        for name in MODELS:
            images += make_gallery(out / name, name, sampler, server, examples=out / "runs" / name / "examples")
        for name in MODELS:
            console.print(f"measuring {name} …")
            model_file = repository / name / "1" / "model.onnx"
            figures.append(measure_model(name, sampler, server, model_file, training_s=training_s[name]))
    print_results(figures, images, elapsed_s=time.monotonic() - start, repository=repository, console=console)


def _verb(console: Console, module: str, *arguments: str) -> None:
    console.print(f"\n./ganvas {shlex.join(arguments)}", highlight=False, soft_wrap=True)
    code = subprocess.run([sys.executable, "-m", module, *arguments]).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code != 0:
        raise DemoError(f"./ganvas {arguments[0]} failed with exit code {code}.")
