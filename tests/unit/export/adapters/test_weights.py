"""Weights from files: safetensors or tensors alone, and nothing that runs code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from export.adapters.weights import load_into, read_weights
from export.errors import InputError

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


class Opener:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def test_safetensors_and_state_dicts_are_read(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    torch.save(WEIGHTS, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        found = read_weights(tmp_path / name)
        assert torch.equal(found["weight"], WEIGHTS["weight"])


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"weight": WEIGHTS["weight"], "more": Opener(tmp_path / "opened")}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"more than tensors, .* if you trust who made it: --trust-pickle\."):
        read_weights(tmp_path / "a.pth")
    assert not (tmp_path / "opened").exists()


@pytest.mark.filterwarnings("ignore:unclosed file")
def test_trust_pickle_reads_it(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"--trust-pickle"):
        read_weights(tmp_path / "a.pth")
    assert set(read_weights(tmp_path / "a.pth", trust_pickle=True)) == {"weight", "bias"}


@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps([1, 2])])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"--weights .*a\.") as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file"):
        read_weights(tmp_path / "a.pth")
    torch.save([torch.zeros(1)], tmp_path / "a.pth")
    with pytest.raises(InputError, match="must hold a state dict; got list"):
        read_weights(tmp_path / "a.pth")


def test_keys_that_do_not_fit_are_listed() -> None:
    message = (
        r"do not fit Linear; keys missing: bias; too many: extra, "
        r"other; of another shape: weight \[2, 4\] for \[2, 3\]\. Give"
    )
    weights = {"weight": torch.zeros(2, 4), "extra": torch.zeros(1), "other": torch.zeros(1)}
    with pytest.raises(InputError, match=message):
        load_into(nn.Linear(3, 2), weights)
    many = {f"extra{i}": torch.zeros(1) for i in range(12)}
    with pytest.raises(InputError, match="and 4 more"):
        load_into(nn.Linear(3, 2), WEIGHTS | many)
