"""`./ganvas demo`: the whole pipeline on real data, as a person would run it, verb by verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from clients.bench.bare import BareError
from clients.demo.errors import DemoError
from clients.demo.pipeline import run_demo
from clients.local_server import LocalServerError
from ganvas_client import GanvasError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def clients() -> None:
    """Programs that use Ganvas."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes; replaced.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Seed of both training runs.", min=0)] = 0,
) -> None:
    """Train a GAN and a VAE on handwritten digits, export, verify and serve them, and look at what they make.

    At most 4 minutes on 2 CPU cores. Example: ./ganvas demo --out out/demo
    """
    run_demo(out, seed=seed, console=Console())


def main() -> None:
    try:
        app(prog_name="ganvas")
    except (DemoError, LocalServerError, BareError, GanvasError, OSError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
