"""docs/configuration.md, from the options of every verb: `python -m tests.support.configuration` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from clients.bench.options import BenchOptions, CompareOptions
from clients.cli.sample import SampleOptions
from clients.demo.__main__ import DemoOptions
from clients.soak.options import FuzzOptions, MixedOptions, OverloadOptions, StreamsOptions, SwapsOptions
from clients.studio.options import StudioOptions
from clients.tune.__main__ import TuneOptions
from export.directions import DirectionsOptions
from export.options import CheckpointExportOptions
from ganvas_core.cli import options_of
from serving.cli.doctor import DoctorOptions
from serving.cli.keys import KeysOptions
from serving.cli.models import ModelsOptions
from serving.cli.verify import VerifyOptions
from serving.keys.store import Key, KeysFile
from serving.options import ServeOptions
from training.cli import TrainOptions
from training.config import TrainConfig
from training.data.cli import DataVerbOptions
from training.evaluation.cli import EvaluateOptions
from training.families import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
VERBS: dict[str, type] = {
    "demo": DemoOptions,
    "doctor": DoctorOptions,
    "train": TrainOptions,
    "data": DataVerbOptions,
    "evaluate": EvaluateOptions,
    "export": CheckpointExportOptions,
    "directions": DirectionsOptions,
    "verify": VerifyOptions,
    "models": ModelsOptions,
    "serve": ServeOptions,
    "keys": KeysOptions,
    "sample": SampleOptions,
    "studio": StudioOptions,
    "tune": TuneOptions,
    "bench": BenchOptions,
    "bench compare": CompareOptions,
    "python -m clients.soak mixed": MixedOptions,
    "python -m clients.soak overload": OverloadOptions,
    "python -m clients.soak streams": StreamsOptions,
    "python -m clients.soak swaps": SwapsOptions,
    "python -m clients.soak fuzz": FuzzOptions,
}
HEAD = """# Configuration

Every option of every verb. A variable is read where its option is not given; the option wins. A wrong value ends in one
line that names the option, the limit and the value, and exit code 2.

Exit codes, of every verb: 0, it is done. 1, it was tried and failed: nobody answers, a port is taken, a disk is full, a
proof fails. 2, it cannot be done as asked: an option, a name or a file is wrong or missing. 130 and 143: Ctrl-C or
SIGTERM before there was anything to finish.

This page is made from the code: `python -m tests.support.configuration` writes it, and a test compares it.
"""


FILES = """
## Variables without an option

| variable | meaning |
|---|---|
| `GANVAS_TRITONSERVER` | Path of the tritonserver to run, instead of the one that is found: [triton.md](triton.md) |
| `GANVAS_ENVOY` | Path of the Envoy to run as gateway, instead of the one that is installed |
| `GANVAS_DATA` | Folder of data sets and of images prepared from them, instead of `data` in the working directory |

## Keys of a Triton model

The keys that our onnxruntime backend takes from `config.pbtxt` are in [triton.md](triton.md).

## The pins of a repository

`_pins.json` in the model repository maps model names to the version that an empty `version` means;
`./ganvas models pin` and `rollback` write it.
"""


def _key_file(kind: Any) -> str:
    """The fields of a dataclass of the keys file as rows."""
    rows = []
    for name, field in kind.__pydantic_fields__.items():
        rows.append(f"| `{name}` | {' '.join((field.description or '').split())} |\n")
    return "".join(rows)


def _keys(options_type: Any, prefix: str = "", without: frozenset[str] = frozenset()) -> str:
    """Every key of a configuration as rows."""
    rows = []
    for option in options_of(options_type):
        if option.field in without:
            continue
        limits = f" ({option.limits})" if option.limits else ""
        choices = f" {', '.join(map(str, get_args(option.type)))}." if get_origin(option.type) is Literal else ""
        meaning = (option.help + choices + limits).replace("|", "\\|")
        rows.append(f"| `{prefix}{option.field}` | {option.shown_default} | {meaning} |\n")
    return "".join(rows)


def _presets() -> str:
    """The keys of every family's presets, those that all have first."""
    head = "| key | default | meaning |\n|---|---|---|\n"
    common = frozenset(option.field for option in options_of(TrainConfig))
    parts = [
        "\n## Keys of a preset\n\nEvery key of a preset's TOML file may be given as "
        "`./ganvas train PRESET --set key=value`; keys of the `[network]` table as `--set network.key=value`. What is "
        "required stands in every preset.\n\n",
        head + _keys(TrainConfig, without=frozenset({"preset", "family", "network"})),
    ]
    for family in FAMILIES.values():
        parts.append(f"\n### {family.name}\n\n{head}")
        parts.append(_keys(family.config_type, without=common))
        parts.append(_keys(family.network_type, prefix="network."))
    return "".join(parts)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for verb, options_type in VERBS.items():
        parts.append(f"\n## {verb}\n\n| option | variable | default | meaning |\n|---|---|---|---|\n")
        for option in options_of(options_type):
            limits = f" ({option.limits})" if option.limits else ""
            env = f"`{option.env}`" if option.env else ""
            typed = "" if option.cli.secret else f"`{option.typed}`"
            meaning = (option.help + limits).replace("|", "\\|")
            parts.append(f"| {typed} | {env} | {option.shown_default} | {meaning} |\n")
    parts.append(_presets())
    parts.append(FILES)
    parts.append(
        "\n## The keys file\n\n`./ganvas keys` writes it: JSON, with these fields\n\n| field | meaning |\n|---|---|\n"
    )
    parts.append(_key_file(KeysFile))
    parts.append("\nand, of each key,\n\n| field | meaning |\n|---|---|\n")
    parts.append(_key_file(Key))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
