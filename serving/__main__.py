"""`python -m serving VERB`: serve, verify, models, doctor."""

from serving.cli import app

if __name__ == "__main__":
    app(prog_name="ganvas")
