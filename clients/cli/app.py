"""The verbs that ask a running service: sample."""

from __future__ import annotations

import typer

from clients.cli.sample import sample

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(sample)


@app.callback()
def stage() -> None:
    """Ask a running sampling service for images."""
