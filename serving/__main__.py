"""`python -m serving VERB …`, which ./ganvas serve, verify, models, doctor and keys run."""

from ganvas_core.cli import run_verbs
from serving.cli.doctor import doctor
from serving.cli.keys import keys
from serving.cli.models import models
from serving.cli.serve import serve
from serving.cli.verify import verify

if __name__ == "__main__":
    run_verbs(serve, verify, models, doctor, keys)
