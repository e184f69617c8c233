"""`python -m training train PRESET …`, which `./ganvas train` runs."""

import sys


def main() -> None:
    """Run the verb; Ctrl-C while PyTorch is still loading ends quietly too."""
    try:
        from training.cli import app
    except KeyboardInterrupt:
        print("train: stopped before it began.", file=sys.stderr)
        raise SystemExit(130) from None
    app(prog_name="ganvas")


if __name__ == "__main__":
    main()
