"""The verbs `train` and `untrained`."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from ganvas_core.cli import OPTIONS, Cli, UsageError, UserError
from training import loop
from training.config import TrainConfig
from training.data import load_dataset
from training.device import resolve_device
from training.families import FAMILIES
from training.presets import load_preset, parse_settings, read_toml
from training.run.checkpoint import read_info
from training.run.checkpoints import CHECKPOINT_NAME, Checkpoints
from training.run.distributed import Processes, joined_processes
from training.run.folder import SAMPLES_NAME, create, read_config
from training.run.progress import TrainingProgress
from training.run.transfer import check_family
from training.untrained import save_untrained

__all__ = ["TrainOptions", "UntrainedOptions", "train", "untrained"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class TrainOptions:
    """Options of `train`: a few of a preset's keys have one of their own, and --set reaches every key."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    preset: Annotated[str, Cli(positional=True)]
    """What to train: a preset's name, or a .toml file like those in training/presets."""
    data: Annotated[str | None, Cli(shown_default="the preset's")] = None
    """What to train on: a data set that `./ganvas data list` shows, hf:NAME, or a path to images of your own."""
    settings: Annotated[tuple[str, ...], Cli(flag="--set")] = ()
    """key=value: any key of the preset, such as network.base_channels=32; may be given again."""
    out: Annotated[Path | None, Cli(env="GANVAS_TRAIN_OUT", shown_default="out/PRESET")] = None
    """Run folder."""
    seed: Annotated[int | None, Field(ge=0, lt=2**63), Cli(shown_default="the preset's, 0")] = None
    """Seed of the run, for weights, noise and image order; it has nothing to do with the seeds of images."""
    kimg: Annotated[float | None, Field(gt=0, allow_inf_nan=False), Cli(shown_default="the preset's")] = None
    """Thousands of images to train on."""
    device: Annotated[str | None, Cli(env="GANVAS_TRAIN_DEVICE", shown_default="auto")] = None
    """Where to compute: cpu, cuda, cuda:1, mps; auto: the best that there is."""
    threads: Annotated[int | None, Field(ge=1, le=256), Cli(env="GANVAS_TRAIN_THREADS", shown_default="1")] = None
    """PyTorch's compute threads on the CPU."""
    start_from: Annotated[Path | None, Cli(flag="--from")] = None
    """Checkpoint folder of the same family to start from: of another class set or resolution, what fits is taken."""
    resume: bool = False
    """Continue the run in OUT, with its own options, from its newest checkpoint."""
    resume_at: Annotated[float | None, Field(ge=0)] = None
    """As --resume, from the kept checkpoint of so many kimg; newer ones are deleted."""
    overwrite: bool = False
    """Replace the run in OUT."""


def train(options: TrainOptions) -> int:
    """Train a preset and write OUT/checkpoint, which `./ganvas export` reads.

    Ctrl-C saves; --resume continues and ends in the same weights as an uninterrupted run.

    Example: ./ganvas train folder --data my-images --set network.image_size=64 --out out/mine
    """
    folder = options.out or Path("out") / Path(options.preset).stem
    resumes = options.resume or options.resume_at is not None
    if resumes and options.overwrite:
        raise UsageError("--resume and --overwrite exclude each other.")
    changes = changes_of(options)
    config = resume_config(options.preset, folder, changes) if resumes else new_config(options.preset, changes)
    with joined_processes(config.device) as (processes, device), _quiet_unless(processes):
        if not resumes:
            config = dataclasses.replace(config, device=device)
            network = config.network
            load_dataset(config.data, image_shape=network.image_shape, num_classes=network.num_classes, options=config)
            if config.start_from is not None:  # before there is a run folder, which a second try would find
                source = Path(config.start_from)
                check_family(read_info(source), source, config)
        if processes.is_first and not resumes:
            try:
                create(folder, config, overwrite=options.overwrite)
            except OSError as error:
                raise UserError(f"--out: cannot write {error.filename or folder}: {error.strerror}.") from None
        processes.wait()
        return _train(config, folder, options, processes)


def _train(config: TrainConfig, folder: Path, options: TrainOptions, processes: Processes) -> int:
    """Say what is trained, train until the budget is spent or a signal asks to stop, and say what came out."""
    console = Console(quiet=not processes.is_first)
    settings = dataclasses.asdict(config)
    network_settings = _listed(settings.pop("network"))
    del settings["preset"], settings["family"]
    console.print(
        f"train {config.preset} ({config.family})\n  {_listed(settings)}\n  network: {network_settings}",
        highlight=False,
        soft_wrap=True,
    )
    checkpoints = Checkpoints(folder, num_last=config.num_checkpoints)
    resume_at = None if options.resume_at is None else checkpoints.at(options.resume_at)
    if options.resume and resume_at is None and checkpoints.newest() is None:
        print(f"train: {folder} has no checkpoint yet: starting from the beginning.", file=sys.stderr)

    resume_command = f"./ganvas train {options.preset} --out {folder} --resume"
    start_s = time.monotonic()
    try:
        with _stop_requests() as stopped, TrainingProgress(config, console) as progress:
            outcome = loop.train(
                config,
                folder,
                resume_at=resume_at,
                processes=processes,
                on_step=progress.on_step,
                should_stop=lambda: bool(stopped),
                say=progress.say,
            )
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
        return 128 + stopped[0] if stopped else 130

    lines = [
        f"trained to {outcome.kimg:.1f} kimg in {time.monotonic() - start_s:.1f} s",
        f"  samples     {folder / SAMPLES_NAME}",
        f"  checkpoint  {folder / CHECKPOINT_NAME} (the best that was kept, of {outcome.best_kimg:g} kimg)",
        f"  {', '.join(f'{name} {value:g}' for name, value in outcome.metrics.items())}",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    return 0


def changes_of(options: TrainOptions) -> dict[str, Any]:
    """The keys of the configuration that a command line gives, --set and others.

    Raises:
        UsageError: a key is given twice, by --set and by its own option.
    """
    own = {
        "data": options.data,
        "seed": options.seed,
        "total_kimg": options.kimg,
        "device": options.device,
        "threads": options.threads,
        "start_from": None if options.start_from is None else str(options.start_from),
    }
    changes = parse_settings(options.settings)
    for key, value in own.items():
        if value is not None and changes.setdefault(key, value) != value:
            raise UsageError(f"--set {key}={changes[key]} contradicts its own option, {value}: give one of them.")
    return changes


def new_config(preset: str, changes: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a new run.

    Raises:
        UsageError: the preset or a change is wrong, or the data cannot be looked at.
    """
    config = load_preset(preset, changes)
    return dataclasses.replace(config, device=resolve_device(config.device))


def resume_config(preset: str, folder: Path, changes: Mapping[str, Any]) -> TrainConfig:
    """The configuration of the run in `folder`; a key that is given must be as it was.

    Raises:
        UsageError: a key is not what the run was started with.
        RunFolderError: there is no run that can be read.
    """
    config = read_config(folder)
    saved = dataclasses.asdict(config)
    given = {"preset": Path(preset).stem if preset.endswith(".toml") else preset, **changes}
    for key, value in given.items():
        table: Any = saved
        for name in key.split("."):
            if not isinstance(table, Mapping) or name not in table:
                raise UsageError(f"--set: the run in {folder} has no key {key!r}.")
            table = table[name]
        if value != table and not (key == "device" and value == "auto"):
            typed = {"preset": "PRESET", "total_kimg": "--kimg", "start_from": "--from"}.get(key, key)
            raise UsageError(
                f"{typed} is {value} here, but the run in {folder} was started with {table}. "
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

    Example: python -m training untrained clients/bench/networks/dcgan64.toml --out out/dcgan64
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
def _quiet_unless(processes: Processes) -> Iterator[None]:
    """Of several processes, the first one speaks: what another one raises is the same, or follows from its end."""
    try:
        yield
    except UserError:
        if processes.is_first:
            raise
        sys.exit(1)


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
