"""The verbs `train` and `untrained`.

`TrainOptions` is made at import: RunOptions, and each field of each family's configuration, all optional. mypy sees
RunOptions.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from ganvas_core.cli import OPTIONS, Cli, Option, UsageError, UserError, options_of
from training import loop
from training.config import TrainConfig
from training.data import load_dataset
from training.families import FAMILIES
from training.presets import load_preset, read_toml, vary
from training.run.folder import CHECKPOINT_NAME, SAMPLES_NAME, create, read_config
from training.run.progress import TrainingProgress
from training.run.resume import RESUME_NAME
from training.untrained import save_untrained

__all__ = ["TrainOptions", "UntrainedOptions", "train", "untrained"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class RunOptions:
    """What `train` takes beside the fields of a configuration."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    preset: Annotated[str, Cli(positional=True)]
    """What to train: a preset's name, or a .toml file like those in training/presets."""
    out: Annotated[Path | None, Cli(env="GANVAS_TRAIN_OUT", shown_default="out/PRESET")] = None
    """Run folder."""
    resume: bool = False
    """Continue the run in OUT, with its own options."""
    overwrite: bool = False
    """Replace the run in OUT."""


def _with_config_fields(base: type) -> type:
    """RunOptions, and every field that some family's configuration adds: None means as the preset has it."""
    annotations: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for option, families in _config_options().values():
        only = "" if len(families) == len(FAMILIES) else f"{' and '.join(families).upper()} only: "
        shown = "the preset's" if option.required else option.shown_default
        cli = dataclasses.replace(option.cli, shown_default=shown)
        annotations[option.field] = Annotated[(option.type | None, *option.constraints, cli)]
        defaults[option.field] = Field(default=None, description=only + option.help)
    made = type("TrainOptions", (base,), {"__module__": __name__, "__annotations__": annotations, **defaults})
    return dataclass(made, frozen=True, kw_only=True, config=OPTIONS)


def _config_options() -> dict[str, tuple[Option, list[str]]]:
    """Field → its option, and the families that have it."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for family in FAMILIES.values():
        for option in options_of(family.config_type):
            if option.field not in ("preset", "family", "network"):
                found.setdefault(option.field, (option, []))[1].append(family.name)
    return found


if TYPE_CHECKING:
    TrainOptions = RunOptions
else:
    TrainOptions = _with_config_fields(RunOptions)


def train(options: TrainOptions) -> int:
    """Train a preset and write OUT/checkpoint, which `./ganvas export` reads.

    Ctrl-C saves; --resume continues and ends in the same weights as an uninterrupted run.

    Example: ./ganvas train digits-gan --out out/digits-gan --seed 7
    """
    folder = options.out or Path("out") / Path(options.preset).stem
    values = {name: getattr(options, name) for name in _config_options()}
    given = {name: value for name, value in values.items() if value is not None}
    if options.resume and options.overwrite:
        raise UsageError("--resume and --overwrite exclude each other.")
    if options.resume:
        config = resume_config(options.preset, folder, given)
        if not (folder / RESUME_NAME).exists():
            print(f"train: {folder} has no saved state yet: starting from the beginning.", file=sys.stderr)
    else:
        config = vary(load_preset(options.preset), given)
        network = config.network
        load_dataset(config.dataset, image_shape=network.image_shape, num_classes=network.num_classes)
        try:
            create(folder, config, overwrite=options.overwrite)
        except OSError as error:
            raise UserError(f"--out: cannot write {error.filename or folder}: {error.strerror}.") from None

    # Say what is trained.
    console = Console()
    settings = dataclasses.asdict(config)
    network_settings = _listed(settings.pop("network"))
    del settings["preset"], settings["family"]
    console.print(
        f"train {config.preset} ({config.family})\n  {_listed(settings)}\n  network: {network_settings}",
        highlight=False,
        soft_wrap=True,
    )

    # Train until the budget is spent or a signal asks to stop.
    resume_command = f"./ganvas train {options.preset} --out {folder} --resume"
    start_s = time.monotonic()
    try:
        with _stop_requests() as stopped, TrainingProgress(config, console) as progress:
            outcome = loop.train(config, folder, on_step=progress.on_step, should_stop=lambda: bool(stopped))
    except KeyboardInterrupt:
        print(f"train: stopped. The last save is intact; continue with: {resume_command}", file=sys.stderr)
        return 130
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or folder}: {error.strerror}. The last save is intact; "
            f"continue with: {resume_command}"
        ) from None
    if not outcome.finished:
        done = f"stopped at {outcome.kimg:.1f} of {config.total_kimg:g} kimg and saved"
        print(f"train: {done}. Continue with: {resume_command}", file=sys.stderr)
        return 128 + stopped[0]

    # Say what came out.
    lines = [
        f"trained to {outcome.kimg:.1f} kimg in {time.monotonic() - start_s:.1f} s",
        f"  {', '.join(f'{name} {value:g}' for name, value in outcome.metrics.items())}",
        f"  samples     {folder / SAMPLES_NAME}",
        f"  checkpoint  {folder / CHECKPOINT_NAME}",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    return 0


def resume_config(preset: str, folder: Path, given: Mapping[str, Any]) -> TrainConfig:
    """The configuration of the run in `folder`; a field that is given must be as it was.

    Raises:
        UsageError: a field is not what the run was started with.
        RunFolderError: there is no run that can be read.
    """
    config = read_config(folder)
    typed = {option.field: option.typed for option, _ in _config_options().values()} | {"preset": "PRESET"}
    vary(config, given)  # rejects a field of another family
    for field, value in {"preset": Path(preset).stem if preset.endswith(".toml") else preset, **given}.items():
        if value != (saved := getattr(config, field)):
            raise UsageError(
                f"{typed[field]} is {value} here, but the run in {folder} was started with {saved}. "
                "Leave it as it was to resume that run, or start another in another --out."
            )
    return config


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class UntrainedOptions:
    """Options of `untrained`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    network: Annotated[Path, Cli(positional=True)]
    """A .toml file with `family` and a [network] table: a preset will do."""
    out: Path
    """Checkpoint folder to write."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the random weights."""


def untrained(options: UntrainedOptions) -> None:
    """Write a checkpoint of random weights, to export and measure a network without training it.

    Example: python -m training untrained clients/bench/dcgan64.toml --out out/dcgan64
    """
    record = read_toml(options.network)
    family = record.get("family")
    if family not in FAMILIES:
        raise UsageError(f"{options.network}: family must be one of {', '.join(FAMILIES)}; got {family!r:.60}.")
    try:
        network = FAMILIES[family].parse_network(record.get("network"))
    except ValueError as error:
        raise UsageError(f"{options.network}: network {error}") from None
    save_untrained(options.out, family=family, network=network, seed=options.seed)


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills when SIGINT or SIGTERM asks for an orderly stop; a second Ctrl-C stops at once."""
    requests: list[int] = []

    def request(number: int, _frame: FrameType | None) -> None:
        requests.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
