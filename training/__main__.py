"""`python -m training VERB …`, which `./ganvas train` runs."""

import sys

from ganvas_core.cli import run_verbs


def main() -> None:
    """Run the verb; Ctrl-C while PyTorch is still loading ends quietly too."""
    try:
        from training.cli import train, untrained
        from training.data.cli import data
        from training.evaluation.cli import evaluate
    except KeyboardInterrupt:
        sys.exit(130)
    run_verbs(train, untrained, data, evaluate)


if __name__ == "__main__":
    main()
