"""`python -m clients.cli sample …`, which `./ganvas sample` runs."""

from clients.cli.sample import sample
from ganvas_core.cli import run_verbs

if __name__ == "__main__":
    run_verbs(sample)
