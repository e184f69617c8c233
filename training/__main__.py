"""`python -m training train PRESET …`, which `./ganvas train` runs."""

import os

# Threads that wait must sleep, not spin: on a busy machine spinning costs several times the training itself.
# OpenMP reads this when PyTorch is loaded, so it stands before the import.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from training.cli import app

if __name__ == "__main__":
    app(prog_name="ganvas")
