"""`python -m export export …`, which `./ganvas export` runs."""

from export.cli import export
from ganvas_core.cli import run_verbs

if __name__ == "__main__":
    run_verbs(export)
