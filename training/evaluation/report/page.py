"""Writes the report: one HTML file that needs nothing else, from the template beside this module."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray
from torch import Tensor

from ganvas_core.grid import image_grid
from ganvas_core.provenance import encode_image, image_text
from training.data.dataset import Split
from training.evaluation.distances import Spread
from training.evaluation.evaluate import Drawn
from training.evaluation.models import GenerativeModel, interpolate
from training.evaluation.report.charts import class_chart, curve_charts, kl_chart, neighbor_chart, truncation_chart
from training.evaluation.result import Evaluation

__all__ = ["report_html"]

GRID_ROWS, GRID_COLUMNS = 8, 16
NUM_WALKS, WALK_FRAMES = 5, 16
NUM_NEIGHBORS = 8
NUM_RECONSTRUCTIONS = 16
TRUNCATION_ROWS = (0.4, 0.7, 1.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table of figures, as text."""

    name: str
    samples: str
    real: str = ""
    untrained: str = ""
    meaning: str = ""


def report_html(
    found: Evaluation, drawn: Drawn, model: GenerativeModel, split: Split, curves: Sequence[Mapping[str, Any]]
) -> str:
    """The page of one evaluation."""
    environment = Environment(
        loader=PackageLoader("training.evaluation.report", "."),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        found=found,
        rows=figures(found),
        sample_grid=_grid_url(_by_label(drawn), GRID_COLUMNS),
        real_grid=_grid_url(
            split.held_out.images[_spread(len(split.held_out), GRID_ROWS * GRID_COLUMNS)], GRID_COLUMNS, real=True
        ),
        walks=_walks(model),
        neighbors=_neighbors(drawn, split),
        truncation_rows=[
            (
                psi,
                _grid_url(
                    model.sample(range(GRID_COLUMNS), _labels(model, GRID_COLUMNS), truncation=psi), GRID_COLUMNS
                ),
            )
            for psi in TRUNCATION_ROWS
        ],
        reconstructions=_reconstructions(model, split),
        neighbor_chart=neighbor_chart(
            drawn.nearest.distance, drawn.held_out_nearest.distance, found.memorization.threshold
        ),
        class_chart=None if found.classes is None else class_chart(found.classes),
        truncation_chart=truncation_chart(found.truncation),
        kl_chart=None if found.reconstruction is None else kl_chart(found.reconstruction.kl_nats),
        curve_charts=curve_charts(curves),
        width=model.facts.image_shape[1],
    )


def figures(found: Evaluation) -> list[Row]:
    """The table: each figure beside what training images get in the samples' place, and an untrained generator."""
    return [
        *_distance_rows(found),
        *_manifold_rows(found),
        *_memory_rows(found),
        *_class_rows(found),
        *_vae_rows(found),
    ]


def _distance_rows(found: Evaluation) -> list[Row]:
    samples, real, untrained = found.samples, found.real, found.untrained
    return [
        Row(
            name="kernel distance to held-out images",
            samples=_plus_minus(samples.kernel),
            real=_plus_minus(real.kernel),
            untrained="" if untrained is None else _plus_minus(untrained.kernel),
            meaning="0 where alike; the spread over 50 subsets",
        ),
        Row(
            name="kernel distance to training images",
            samples=_plus_minus(samples.kernel_to_train),
            untrained="" if untrained is None else _plus_minus(untrained.kernel_to_train),
            meaning="far below the line above: memorised",
        ),
        Row(
            name="Fréchet distance to held-out images",
            samples=f"{_number(samples.frechet)} = {samples.ratio:.2f} times the floor",
            real=f"{_number(real.frechet)}, the floor",
            untrained=""
            if untrained is None
            else f"{_number(untrained.frechet)} = {untrained.ratio:.0f} times the floor",
            meaning="the floor is what unseen real images have",
        ),
        Row(
            name="Fréchet distance to training images",
            samples=_number(samples.frechet_to_train),
            untrained="" if untrained is None else _number(untrained.frechet_to_train),
        ),
    ]


def _manifold_rows(found: Evaluation) -> list[Row]:
    samples, real, untrained = found.samples, found.real, found.untrained
    meanings = {
        "precision": "samples near a real image",
        "density": "how deep among real images",
        "recall": "real images near a sample",
        "coverage": "real images with a sample in their own neighbourhood",
    }
    rows = [
        Row(
            name=name,
            samples=f"{getattr(samples.manifold, name):.3f}",
            real=f"{getattr(real.manifold, name):.3f}",
            untrained="" if untrained is None else f"{getattr(untrained.manifold, name):.3f}",
            meaning=meaning,
        )
        for name, meaning in meanings.items()
    ]
    both = Row(
        name="coverage / authenticity",
        samples=f"{samples.manifold.coverage:.2f} / {samples.authenticity or 0:.2f}",
        untrained="" if untrained is None else f"{untrained.manifold.coverage:.2f} / {untrained.authenticity or 0:.2f}",
        meaning="authenticity says nothing where coverage is low: a bad generator is very authentic",
    )
    return [*rows, both]


def _memory_rows(found: Evaluation) -> list[Row]:
    memorized = found.memorization
    return [
        Row(
            name="memorised share",
            samples=f"{memorized.share:.1%} / {memorized.strict_share:.1%}",
            real=f"5.0% / {memorized.real_strict_share:.1%} (held-out images)",
            meaning="nearer to a training image than the 5th percentile of held-out images, and than ¾ of it",
        ),
        Row(
            name="distinct samples",
            samples=f"{found.num_distinct} of {found.num_samples}",
            meaning="near copies among the samples taken for one",
        ),
        Row(
            name="fine detail",
            samples=f"{found.relative_detail:.2f}",
            real="1.00",
            meaning="below 1: blurred; above 1: noisy",
        ),
    ]


def _class_rows(found: Evaluation) -> list[Row]:
    rows, classes = [], found.classes
    if classes is not None:
        rows.append(
            Row(
                name="evenness of classes",
                samples=f"{classes.entropy:.3f}",
                real="1.000",
                meaning="entropy of the class histogram, over that of the data",
            )
        )
        if classes.agreement is not None:
            rows.append(
                Row(
                    name="class agreement",
                    samples=f"{classes.agreement:.3f}",
                    real=f"{classes.judge_accuracy:.3f} (held-out images)",
                    meaning=f"taken for the label asked for, by {classes.judge}",
                )
            )
    if found.synthetic_accuracy is not None and found.real_accuracy is not None:
        rows.append(
            Row(
                name="train on synthetic, test on real",
                samples=f"{found.synthetic_accuracy:.3f}",
                real=f"{found.real_accuracy:.3f}",
                meaning="accuracy on held-out images of a classifier that saw these images alone",
            )
        )
    return rows


def _vae_rows(found: Evaluation) -> list[Row]:
    vae = found.reconstruction
    if vae is None:
        return []
    return [
        Row(
            name="reconstruction",
            samples=f"{vae.psnr_db:.2f} dB, SSIM {vae.ssim:.3f}",
            meaning="of held-out images",
        ),
        Row(
            name="active latent dimensions",
            samples=f"{vae.num_active} of {len(vae.kl_nats)}, {sum(vae.kl_nats):.1f} nats",
            meaning="that carry more than 0.01 nats",
        ),
    ]


def _by_label(drawn: Drawn) -> Tensor:
    """The first samples; of a conditional model in order of their labels."""
    count = min(GRID_ROWS * GRID_COLUMNS, len(drawn.images))
    if drawn.labels is None:
        return drawn.images[:count]
    rows = np.argsort(drawn.labels[:count], kind="stable")
    return drawn.images[torch.from_numpy(rows)]


def _labels(model: GenerativeModel, count: int) -> NDArray[np.int64] | None:
    num_classes = len(model.facts.labels)
    return np.arange(count, dtype=np.int64) % num_classes if num_classes else None


def _walks(model: GenerativeModel) -> list[str]:
    """Strips from one seed's latent to another's, a label each."""
    strips = []
    for i in range(NUM_WALKS):
        num_classes = len(model.facts.labels)
        label = i % num_classes if num_classes else None
        path = interpolate(model, 2 * i, 2 * i + 1, WALK_FRAMES, label)
        labels = None if label is None else np.full(WALK_FRAMES, label, np.int64)
        strips.append(_grid_url(model.decode(path, labels), WALK_FRAMES))
    return strips


def _neighbors(drawn: Drawn, split: Split) -> list[tuple[str, str, str]]:
    """The samples nearest to a training image, and some at random: both images, and their distance."""
    order = np.argsort(drawn.nearest.distance)
    others = order[NUM_NEIGHBORS:]
    chosen = [*order[:NUM_NEIGHBORS], *others[_spread(len(others), NUM_NEIGHBORS)]]
    return [
        (
            _grid_url(drawn.images[int(row)][None], 1),
            _grid_url(split.train.images[int(drawn.nearest.index[row])][None], 1, real=True),
            f"{drawn.nearest.distance[row]:.2f}",
        )
        for row in chosen
    ]


def _reconstructions(model: GenerativeModel, split: Split) -> str | None:
    """Held-out images, and the decoded mean of each one's posterior below."""
    encoding = model.encodes
    if encoding is None:
        return None
    rows = torch.from_numpy(_spread(len(split.held_out), NUM_RECONSTRUCTIONS))
    images = split.held_out.images[rows]
    labels = None
    if model.facts.labels and split.held_out.labels is not None:
        labels = split.held_out.labels[rows].numpy()
    mean, _ = encoding.encode(images)
    return _grid_url(torch.cat([images, encoding.decode(mean, labels)]), len(images))


def _spread(length: int, count: int) -> NDArray[np.int64]:
    """Evenly spread rows, at most `count`."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(np.int64))


def _grid_url(images: Tensor, columns: int, *, real: bool = False) -> str:
    """A PNG as a data URL. images: [N, C, H, W] uint8."""
    grid = image_grid(images.permute(0, 2, 3, 1).contiguous().numpy(), num_columns=min(columns, len(images)))
    text = "Images from a data set." if real else "AI-generated images of a report."
    data = encode_image(grid, "png", image_text(text, {}, ai_generated=not real))
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _plus_minus(spread: Spread | None) -> str:
    return "" if spread is None else f"{_number(spread.mean)} ± {_number(spread.std)}"


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
