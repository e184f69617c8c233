"""`python -m export VERB …`, which `./ganvas export` and `./ganvas directions` run."""

import sys
from pathlib import Path

from export.cli import export
from export.directions import directions
from ganvas_core.cli import run_verbs

EXPLANATION = """\
An adapter is a Python file with one function, adapter(), that returns a torch.nn.Module and a Spec of what it takes and
makes. This one runs as it is; save it as my_model.py:

{example}
    ./ganvas export --adapter my_model.py --name my-model
    ./ganvas export --adapter my_model.py --name my-model --weights FILE     calls adapter(weights), with a state dict

Ready adapters, which need --weights: dcgan, diffusers-vae, biggan, stylegan2. More: docs/adapters.md."""

if __name__ == "__main__":
    if sys.argv[1:] == ["export", "--adapter"]:
        example = (Path(__file__).parent / "adapters" / "example.py").read_text(encoding="utf-8")
        print(EXPLANATION.format(example="".join(f"    {line}".rstrip() + "\n" for line in example.splitlines())))
        sys.exit(0)
    run_verbs(export, directions)
