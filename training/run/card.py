"""The model card: what a stranger should know of a checkpoint, as a page to read."""

from __future__ import annotations

import math

from training.run.info import CheckpointInfo

__all__ = ["card"]

MACHINE_MADE = (
    "Every image of this model is machine-made: it shows nothing that exists or happened. Keep the provenance that "
    "Ganvas writes into each file, and say so where you show one."
)
INTENDED_USE = (
    "Images in the manner of its training data: for art, demonstrations, tests, teaching and research. It is not meant "
    "to show real persons, as evidence of anything, or to pass for photographs. It repeats what its data holds and "
    "lacks, and may come near to single training images: `./ganvas evaluate` measures how near."
)


def card(info: CheckpointInfo) -> str:
    """The card in Markdown, with the front matter that model hubs read."""
    data = info.dataset
    classes = f"{len(info.labels)}: {_some(info.labels)}" if info.labels else "none: it is unconditional"
    start = f"from the weights {info.started_from[:16]}…" if info.started_from else "from random weights"
    rows = [
        ("family", info.family),
        ("images", f"{info.image.height}x{info.image.width}, {_channels(info.image.channels)}"),
        ("classes", classes),
        ("latent", "x".join(str(size) for size in info.network.latent_shape)),
    ]
    training = [
        ("preset", info.preset),
        ("images seen", f"{info.kimg:g} thousand, {start}"),
        ("seed", str(info.seed)),
        ("device", info.device or "not recorded"),
        ("features in the loss", ", ".join(info.trained_with_features) or "none"),
        ("taken back after divergence", f"{info.num_rollbacks} times"),
        ("PyTorch", info.torch),
        ("Ganvas", info.git_revision or "not recorded"),
    ]
    described = [
        ("name", data.name),
        ("images", f"{data.size:,}"),
        ("source", data.source or "not given"),
        ("licence", data.license or "not given: ask the owner of the images before you publish the model"),
        ("SHA-256 of the pixels and labels", f"`{data.sha256}`" if data.sha256 else "none"),
    ]
    metrics = [(name, f"{value:.4g}" if math.isfinite(value) else str(value)) for name, value in info.metrics.items()]
    measured = _table(metrics) if metrics else "Not measured.\n"
    return (
        f"---\nlibrary_name: ganvas\npipeline_tag: unconditional-image-generation\ntags: [{info.family}]\n---\n\n"
        f"# {info.preset}\n\nA {info.family} that draws images from seeds.\n\n{_table(rows)}\n"
        f"## Intended use\n\n{INTENDED_USE}\n\n## Machine-made images\n\n{MACHINE_MADE}\n\n"
        f"## Training data\n\n{_table(described)}\n## Training\n\n{_table(training)}\n"
        f"## Metrics\n\nMeasured on images that were held out from training, as training saved the model.\n\n{measured}"
    )


def _table(rows: list[tuple[str, str]]) -> str:
    lines = [f"| {name} | {' '.join(value.replace('|', '/').split())} |\n" for name, value in rows]
    return "| | |\n|---|---|\n" + "".join(lines)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def _channels(num_channels: int) -> str:
    return {1: "grey", 3: "RGB", 4: "RGB with transparency"}.get(num_channels, f"{num_channels} channels")
