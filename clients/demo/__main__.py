"""`python -m clients.demo demo …`, which `./ganvas demo` runs: the whole pipeline on real data, verb by verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from clients.demo.errors import DemoError
from clients.demo.pipeline import run_demo
from ganvas_client import GanvasError
from ganvas_core.cli import OPTIONS, run_verbs


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class DemoOptions:
    """Options of `demo`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    out: Path = Path("out/demo")
    """Folder for everything the demo makes; replaced."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of both training runs."""


def demo(options: DemoOptions) -> None:
    """Train a GAN and a VAE on handwritten digits, export, verify and serve them, and look at what they make.

    At most 4 minutes on 2 CPU cores. Example: ./ganvas demo --out out/demo
    """
    try:
        run_demo(options.out, seed=options.seed, console=Console())
    except GanvasError as error:
        raise DemoError(str(error)) from None


if __name__ == "__main__":
    run_verbs(demo)
