"""The verb `evaluate`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass
from rich.console import Console

from ganvas_core.cli import OPTIONS, Cli, UsageError
from ganvas_core.files import write_atomic
from ganvas_core.tls_options import Address, CallerOptions
from training.config import TrainConfig
from training.data import Split, load_dataset
from training.evaluation.evaluate import evaluate as measure
from training.evaluation.features import FEATURES, default_features, load_features
from training.evaluation.models import CheckpointModel, GenerativeModel, untrained_model
from training.evaluation.result import Evaluation, Quality
from training.run.checkpoint import INFO_NAME, load_model
from training.run.checkpoints import CHECKPOINT_NAME, CHECKPOINTS_NAME
from training.run.curves import CURVES_NAME, read_curves
from training.run.folder import CONFIG_NAME, RunFolderError, read_config

__all__ = ["EvaluateOptions", "evaluate"]

FeaturesName = Literal["auto", "digits", "efficientnet-lite0", "inception", "dinov2"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class EvaluateOptions(CallerOptions):
    """Options of `evaluate`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    checkpoint: Annotated[Path | None, Cli(positional=True)] = None
    """A checkpoint folder, or a run folder: its best checkpoint."""
    model: str | None = None
    """Name of a served model, in place of a checkpoint."""
    url: Address = "127.0.0.1:50051"
    """host:port of the service that serves the model."""
    data: Annotated[str | None, Cli(shown_default="what it was trained on")] = None
    """The data set to compare with, as of `train`."""
    features: FeaturesName = "auto"
    """What images are compared by; auto: the digit classifier for digits, EfficientNet-Lite0 for all else."""
    num_samples: Annotated[int | None, Field(ge=100, le=5000), Cli(shown_default="as many as training images")] = None
    """Samples to draw."""
    out: Annotated[Path | None, Cli(shown_default="evaluation in the run folder")] = None
    """Folder for report.html and evaluation.json."""
    threads: Annotated[int, Field(ge=1, le=256), Cli(env="GANVAS_TRAIN_THREADS")] = 1
    """PyTorch's compute threads."""


def evaluate(options: EvaluateOptions) -> None:
    """Measure a checkpoint or a served model on held-out images; write report.html and evaluation.json.

    Example: ./ganvas evaluate out/digits-gan
    """
    if (options.checkpoint is None) == (options.model is None):
        raise UsageError("name either a CHECKPOINT or, for a served model, --model NAME --url HOST:PORT.")
    from training.evaluation.report.page import report_html  # with matplotlib, which no other verb waits for

    torch.set_num_threads(options.threads)
    console = Console()
    subject = _served(options) if options.model is not None else _checkpoint(options)
    name: str = options.features
    if name == "auto":
        trained_with = subject.model.facts.judged_by_none_of
        name = default_features(subject.split.train, trained_with)
        if trained_with:
            console.print(f"trained with features of {', '.join(trained_with)}: judged by {name}", highlight=False)
    features = load_features(name, num_channels=subject.split.train.images.shape[1])

    with console.status("evaluating …") as status:
        found, drawn = measure(
            subject.model,
            subject.split,
            features,
            num_samples=options.num_samples,
            untrained=subject.untrained,
            curves=subject.curves,
            on_stage=lambda stage: status.update(f"evaluating: {stage} …"),
        )
        status.update("evaluating: report …")
        page = report_html(found, drawn, subject.model, subject.split, subject.curves)
    subject.out.mkdir(parents=True, exist_ok=True)
    record = TypeAdapter(Evaluation).dump_python(found, mode="json")
    write_atomic(subject.out / "evaluation.json", (json.dumps(record, indent=2) + "\n").encode())
    write_atomic(subject.out / "report.html", page.encode())
    console.print(summary(found), highlight=False, soft_wrap=True)
    console.print(f"  report    {subject.out / 'report.html'}", highlight=False, soft_wrap=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Subject:
    """A model, and what it is measured on."""

    model: GenerativeModel
    split: Split
    untrained: GenerativeModel | None
    curves: Sequence[Mapping[str, Any]]
    out: Path


def _checkpoint(options: EvaluateOptions) -> _Subject:
    assert options.checkpoint is not None
    folder = options.checkpoint
    if not (folder / INFO_NAME).exists() and (folder / CHECKPOINT_NAME / INFO_NAME).exists():
        folder = folder / CHECKPOINT_NAME
    loaded = load_model(folder)
    info = loaded.info
    run = _run_folder(folder)
    curves = read_curves(run / CURVES_NAME) if run is not None and (run / CURVES_NAME).is_file() else []
    trained_with = _config(run)
    same = trained_with is not None and options.data in (None, trained_with.data)
    return _Subject(
        model=CheckpointModel.of(loaded, name=info.preset),
        split=load_dataset(
            options.data or (trained_with.data if trained_with else info.dataset.name),
            image_shape=info.network.image_shape,
            num_classes=info.network.num_classes,
            options=trained_with if same else None,
        ),
        untrained=untrained_model(info),
        curves=[line for line in curves if line["kimg"] <= info.kimg],
        out=options.out or (run or folder.parent) / "evaluation",
    )


def _served(options: EvaluateOptions) -> _Subject:
    from training.evaluation.served import ServedModel

    assert options.model is not None
    if options.data is None:
        raise UsageError("--data is missing: a served model does not say which images to compare with.")
    model = ServedModel(options.url, options.model, api_key=options.api_key, credentials=options.credentials())
    facts = model.facts
    return _Subject(
        model=model,
        split=load_dataset(options.data, image_shape=facts.image_shape, num_classes=len(facts.labels)),
        untrained=None,
        curves=[],
        out=options.out or Path("out") / f"evaluation-{options.model}",
    )


def _run_folder(checkpoint: Path) -> Path | None:
    """The run that a checkpoint lies in."""
    folder = checkpoint.resolve()
    for run in (folder.parent, folder.parent.parent):
        if (run / CONFIG_NAME).is_file() and folder.relative_to(run).parts[0] in (CHECKPOINT_NAME, CHECKPOINTS_NAME):
            return run
    return None


def _config(run: Path | None) -> TrainConfig | None:
    """The options of the run, where it can be read."""
    if run is None:
        return None
    try:
        return read_config(run)
    except RunFolderError:
        return None


def summary(found: Evaluation) -> str:
    """What the terminal shows: the figures of the samples, their references in brackets, then the findings."""
    samples, real = found.samples, found.real

    def against(name: str, mine: float, other: float) -> str:
        return f"{name} {mine:.3f} ({other:.3f})"

    inside, outside = samples.manifold, real.manifold
    lines = [
        f"{found.model.name}: {found.num_samples} samples against {found.data.num_held_out} held-out images of "
        f"{found.data.name}, by {found.features}; in brackets: training images in their place",
        f"  Fréchet distance {samples.frechet:.2f} = {samples.ratio:.2f} times its floor {real.frechet:.2f}"
        + _untrained(found.untrained),
        f"  kernel distance {samples.kernel.mean:.3f} ± {samples.kernel.std:.3f} "
        f"({real.kernel.mean:.3f} ± {real.kernel.std:.3f})",
        "  "
        + ", ".join(
            against(name, getattr(inside, name), getattr(outside, name))
            for name in ("precision", "recall", "density", "coverage")
        ),
        f"  memorised share {found.memorization.share:.1%} / {found.memorization.strict_share:.1%} "
        f"(held-out images 5 % / {found.memorization.real_strict_share:.1%})",
    ]
    if found.classes is not None and found.classes.agreement is not None:
        lines.append("  " + against("class agreement", found.classes.agreement, found.classes.judge_accuracy))
    if found.synthetic_accuracy is not None and found.real_accuracy is not None:
        lines.append("  " + against("synthetic-to-real accuracy", found.synthetic_accuracy, found.real_accuracy))
    if found.reconstruction is not None:
        vae = found.reconstruction
        lines.append(
            f"  reconstruction {vae.psnr_db:.1f} dB, SSIM {vae.ssim:.3f}, "
            f"{vae.num_active} of {len(vae.kl_nats)} latent dimensions active"
        )
    lines += [
        f"  {finding.severity}: {finding.title} ({finding.metric}): {finding.evidence}" for finding in found.findings
    ]
    return "\n".join(lines)


def _untrained(quality: Quality | None) -> str:
    return "" if quality is None else f" (untrained: {quality.ratio:.0f} times)"


assert set(FEATURES) | {"auto"} == set(FeaturesName.__args__)  # type: ignore[attr-defined]
