"""`python -m clients.cli sample …`, which `./ganvas sample` runs."""

from clients.cli.app import app

if __name__ == "__main__":
    app(prog_name="ganvas")
