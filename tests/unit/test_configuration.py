"""Every key that anybody can set is documented: options, variables, the keys file, a Triton model's configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from serving.backends.onnxruntime import ganvas_session
from serving.keys.store import Key, KeysFile
from tests.support.configuration import PAGE, page

CHECKOUT = Path(__file__).resolve().parents[2]
INTERNAL = {"GANVAS_RUN_FOLDER", "GANVAS_COUNTS_FOLDER", "GANVAS_FIELD_NAME"}
"""What a run marks its own processes with, where they count their requests, and an example in a docstring."""


def test_page_of_the_configuration_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python -m tests.support.configuration"


def test_every_variable_is_documented() -> None:
    folders = ("clients", "export", "serving", "training")
    sources = [path for folder in folders for path in (CHECKOUT / folder).rglob("*.py")]
    found = {name for path in sources for name in re.findall(r"\bGANVAS_[A-Z_]*[A-Z]\b", path.read_text("utf-8"))}
    documented = PAGE.read_text(encoding="utf-8")
    assert len(found) > 5
    assert {name for name in found - INTERNAL if f"`{name}`" not in documented} == set()


@pytest.mark.parametrize("kind", [Key, KeysFile])
def test_every_field_of_the_keys_file_is_documented(kind: Any) -> None:
    documented = PAGE.read_text(encoding="utf-8").partition("## The keys file")[2]
    for name, field in kind.__pydantic_fields__.items():
        assert field.description
        assert f"| `{name}` |" in documented


class Asked(ganvas_session.Config):
    """A configuration without any key, which notes the parameters that it is asked for."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked: set[str] = set()

    def parameter(self, key: str, default: str = "") -> str:
        self.asked.add(key)
        return super().parameter(key, default)


def test_every_key_of_the_backend_is_documented() -> None:
    config = Asked()
    ganvas_session._session_options(config)
    ganvas_session._providers(config, 0)
    ganvas_session.run_options(config)
    of_model = (CHECKOUT / "serving" / "backends" / "onnxruntime" / "model.py").read_text(encoding="utf-8")
    config.asked |= set(re.findall(r"config\.(?:parameter|integer|flag)\(\s*\"(\w+)\"", of_model))
    of_session = Path(ganvas_session.__file__).read_text(encoding="utf-8")
    sections = set(re.findall(r"_values\.get\(\"(\w+)\"", of_session)) - {"parameters", "input", "output"}
    keys = config.asked | sections | set(ganvas_session.TENSORRT_NAMES) | {"precision_mode"}
    assert {"batch_buckets", "enable_mem_arena", "cudnn_conv_algo_search", "default_model_filename"} <= keys
    page_of_triton = (CHECKOUT / "docs" / "triton.md").read_text(encoding="utf-8")
    assert {key for key in keys if key not in page_of_triton} == set()
