"""Adapter files: what is taken, and that every mistake is one line with the next step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.adapters.check import check_source
from export.adapters.file import load_adapter_file
from export.adapters.load import load_source
from export.errors import InputError
from export.options import CheckpointExportOptions

EXAMPLE = Path("export/adapters/example.py").resolve()

HEAD = """
import random
import numpy as np
import torch
from torch import nn
from export.adapters import Spec

SPEC = dict(latent_shape=(6,), image=(4, 5, 3))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 60)
    def forward(self, z):
        return torch.tanh(self.layer(z)).reshape(-1, 3, 4, 5)
"""


def load(folder: Path, body: str, weights: Path | None = None) -> None:
    """Load an adapter that says `body` after HEAD, and hold it against its spec, as the verb does."""
    path = folder / "my_model.py"
    path.write_text(HEAD + body)
    check_source(load_adapter_file(path, weights))


def network(code: str, *, spec: str = "Spec(**SPEC)") -> str:
    """An adapter whose forward is `code`."""
    return f"""
class Other(Net):
    def forward(self, z):
        images = super().forward(z)
        {code}

def adapter():
    return Other(), {spec}
"""


def conditional(num_classes: int, spec: str) -> str:
    """An adapter of a network with `num_classes` classes."""
    return f"""
class Conditional(Net):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding({num_classes}, 6)
    def forward(self, z, label):
        return super().forward(z + self.embedding(label))

def adapter():
    return Conditional(), {spec}
"""


BAD = {
    "raises": (
        "def adapter():\n    raise RuntimeError('no such thing')",
        r"raised RuntimeError in my_model\.py, line 18: no such thing\. Mend",
    ),
    "exits": ("raise SystemExit(0)", r"raised SystemExit in my_model\.py, line 17: 0\. Mend the adapter"),
    "exits in the function": (
        "import sys\ndef adapter():\n    sys.exit()",
        r"adapter\(\) in .* raised SystemExit in my",
    ),
    "exits in forward": (network("raise SystemExit"), r"the network raised SystemExit in my_model\.py, line \d+ on"),
    "not Python": ("def adapter(:", r"is not Python: invalid syntax \(line \d+\)"),
    "no function": ("model = Net()", r"must define a function adapter\(\)"),
    "only a network": ("def adapter():\n    return Net()", r"must return a torch\.nn\.Module and a Spec; got Net"),
    "two parameters": ("def adapter(a, b):\n    return 1", r"must take nothing, or the weights alone; it takes 2"),
    "weights not given": ("def adapter(weights):\n    return 1", r"takes the weights: give them with --weights FILE"),
    "unknown field": (network("return images", spec="Spec(**SPEC, size=3)"), r"the Spec in .* is wrong: size"),
    "wrong type": (network("return images", spec="Spec(latent_shape=6, image=(4, 5, 3))"), r"latent_shape"),
    "empty range": (
        network("return images", spec="Spec(**SPEC, image_range=(1.0, -1.0))"),
        r"image_range must be black",
    ),
    "five channels": (network("return images", spec="Spec(latent_shape=(6,), image=(4, 5, 5))"), r"image"),
    "another size": (network("return images[:, :, :2]"), r"says images of \[4, 3, 4, 5\], and .* \[4, 3, 2, 5\]"),
    "another latent": (
        network("return images", spec="Spec(latent_shape=(7,), image=(4, 5, 3))"),
        r"raised RuntimeError in my_model\.py, line \d+ on a batch of 4, inputs of \[4, 7\]: .* or the spec if",
    ),
    "more labels than classes": (
        conditional(3, "Spec(**SPEC, labels=5)"),
        r"raised IndexError in my_model\.py, line \d+ .* It takes label 0: the spec says 5 labels, .* all, up to 4\.",
    ),
    "one label more than classes": (conditional(99, "Spec(**SPEC, labels=100)"), r"IndexError .* all, up to 99\."),
    "a label twice": (
        conditional(3, "Spec(**SPEC, labels=('cat', 'dog', 'cat'))"),
        r"the Spec in .* labels must have a name each; 'cat' is there 2 times",
    ),
    "a label without a name": (
        conditional(2, "Spec(**SPEC, labels=('cat', ' '))"),
        r"labels must have names; that of label 1 is ' '",
    ),
    "fewer than no labels": (network("return images", spec="Spec(**SPEC, labels=-1)"), r"labels"),
    "small batches alone": (
        network("assert len(z) < 8, 'too many'\n        return images"),
        r"raised AssertionError .* on a batch of 16, .*: too many\. It takes a batch of 4: make it take a batch of any",
    ),
    "an assert": (network("assert z.shape[0] == 1, 'one only'"), r"raised AssertionError .*: one only"),
    "a tuple": (network("return images, z"), r"must return a tensor of images; got a tuple of 2"),
    "doubles": (network("return images.double()"), r"must return float32 images; got torch\.float64"),
    "NaN images": (
        network("return images / 0 * 0"),
        r"240 values that are not finite, of 240: forward makes them between its layers\. Look for a division by 0",
    ),
    "a layer that makes NaN": (
        network("return torch.tanh(self.layer(z / 0)).reshape(-1, 3, 4, 5)"),
        r"not finite, of 240: forward makes them between its layers",
    ),
    "statistics that are not filled": (
        "def adapter():\n    net = nn.Sequential(Net(), nn.BatchNorm2d(3))\n    net[1].running_var.fill_(-1)\n"
        "    return net, Spec(**SPEC)",
        r"of 240: 1 \(BatchNorm2d\) is the first layer to make them\. Fill its running statistics\.",
    ),
    "torch randomness": (network("return images * torch.rand(1)"), r"other values when it is called again"),
    "Python randomness": (network("return images * random.random()"), r"other values when it is called again"),
    "NumPy randomness": (
        network("return images * np.random.rand()"),
        r"Python's random, np\.random\), or it keeps state",
    ),
    "dropout": (network("return nn.functional.dropout(images, 0.5, training=True) / 2"), r"called again"),
    "beyond the range": (network("return 3 * images"), r"image_range is \[-1, 1\], and .* within \[-2\.\d+, 2\.\d+\]"),
    "NaN weights": (
        "def adapter():\n    net = Net()\n    net.layer.weight.data[0, :2] = torch.nan\n    return net, Spec(**SPEC)",
        r"layer\.weight of the network has 2 weights that are not a number, of 360",
    ),
    "no posterior": (
        "def adapter():\n    return Net(), Spec(**SPEC, encoder=nn.Flatten())",
        r"the encoder must return mean and logvar; got Tensor",
    ),
    "keys that do not fit": (
        "def adapter():\n    Net().load_state_dict({'layer.weight': torch.zeros(3, 6), 'b': torch.zeros(1)})",
        r"Missing key\(s\) in state_dict: \"layer\.bias\"\..*Unexpected key\(s\).*\"b\".*size mismatch for layer\.w",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_adapter_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    body, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, body)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_good_adapter_is_taken_with_the_digest_of_its_file(tmp_path: Path) -> None:
    load(tmp_path, network("return images"))
    source = load_adapter_file(tmp_path / "my_model.py", None)
    assert (source.latent_shape, source.image, source.image_range) == ((6,), (4, 5, 3), (-1.0, 1.0))
    assert source.family == "my_model.Other"
    assert source.provenance["adapter"] == "my_model.py"
    assert len(source.provenance["adapter_sha256"]) == 64


def test_nhwc_images_and_labels_by_number(tmp_path: Path) -> None:
    spec = "Spec(**SPEC, layout='NHWC', labels=3)"
    body = f"""
class Other(Net):
    def forward(self, z, label):
        return (super().forward(z) / (1 + label[:, None, None, None])).permute(0, 2, 3, 1)

def adapter():
    return Other(), {spec}
"""
    load(tmp_path, body)
    source = load_adapter_file(tmp_path / "my_model.py", None)
    assert source.labels == ("0", "1", "2")
    assert source.generator(torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64)).shape == (2, 3, 4, 5)


def test_weights_are_passed_to_an_adapter_that_takes_them(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file({"layer.weight": torch.full((60, 6), 0.5), "layer.bias": torch.zeros(60)}, weights)
    body = "def adapter(weights):\n    net = Net()\n    net.load_state_dict(weights)\n    return net, Spec(**SPEC)"
    load(tmp_path, body, weights)
    source = load_adapter_file(tmp_path / "my_model.py", weights)
    assert torch.equal(source.generator.state_dict()["layer.weight"], torch.full((60, 6), 0.5))
    assert len(source.provenance["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "nothing.py"}, r"--adapter nothing\.py is no file"),
        ({"adapter": "stylegan3"}, r"must be a Python file, or one of dcgan, .*; got 'stylegan3'"),
        ({"adapter": "dcgan"}, r"--adapter dcgan needs --weights"),
        ({"adapter": str(EXAMPLE), "image_size": "4x4"}, r"--image-size is for ready adapters"),
    ],
)
def test_options_that_name_no_adapter_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_source(CheckpointExportOptions(name="mine", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs either CHECKPOINT or --adapter"),
        ({"checkpoint": "a", "adapter": "dcgan"}, "needs either CHECKPOINT or --adapter"),
        ({"checkpoint": "a", "weights": "b"}, "--weights is for --adapter"),
        ({"adapter": "dcgan", "image_size": "48"}, "--image-size must be HEIGHTxWIDTH"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CheckpointExportOptions(name="mine", **options)  # type: ignore[arg-type]


def test_the_verb_alone_with_adapter_shows_an_example_that_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "export", "export", "--adapter"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    start = next(i for i, line in enumerate(shown.splitlines()) if line.startswith("    "))
    end = next(i for i, line in enumerate(shown.splitlines()) if "./ganvas export" in line)
    (tmp_path / "my_model.py").write_text("\n".join(line[4:] for line in shown.splitlines()[start:end]))
    source = load_adapter_file(tmp_path / "my_model.py", None)
    check_source(source)
    assert source.image == (24, 32, 3)


def test_an_adapter_imports_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "my_layers_beside.py").write_text(HEAD)
    (tmp_path / "my_model.py").write_text(
        "from my_layers_beside import SPEC, Net\nfrom export.adapters import Spec\n"
        "def adapter():\n    return Net(), Spec(**SPEC)"
    )
    before = list(sys.path)
    check_source(load_adapter_file(tmp_path / "my_model.py", None))
    assert sys.path == before
