"""fp16 files in half arithmetic, as Markdown tables.

python -m benchmarks.half_arithmetic hostile                      generators that whole-graph fp16 breaks
python -m benchmarks.half_arithmetic seeds CHECKPOINT FOLDER …    a published fp16 file over 4,096 seeds and the corners
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from export.adapters.checkpoint import load_checkpoint
from export.adapters.source import Source
from export.errors import GateError
from export.graph.build import build_graphs, export_networks
from export.graph.tensors import load_graph
from export.options import ExportOptions
from export.precision.mixed import add_fp16
from export.proof.cases import batch_sizes, make_half_cases
from export.proof.half import NodeByNode
from export.proof.half_gate import Verdict, judge_images
from export.proof.prove import expect_half, prove
from export.surgery.fp16 import fp16_network
from ganvas_core.certificate import Certificate
from ganvas_core.interface import TRUNCATION_MAX, sample_inputs
from ganvas_core.names import FP16_FILE, FP32_FILE
from ganvas_core.session import CpuSession
from tests.unit.export.precision.generators import HOSTILE, hostile_source

NUM_SEEDS = 4096


def figures(verdict: Verdict) -> str:
    if verdict.activations.num_nonfinite:
        return f"{verdict.activations.num_nonfinite:,} values not finite"
    pixels = verdict.pixels
    assert pixels is not None
    psnr = "identical" if pixels.worst_psnr_db is None else f"{pixels.worst_psnr_db:.1f} dB"
    return f"max {pixels.max_levels}, mean {pixels.mean_levels:.4f}, {psnr}"


def hostile_row(name: str, source: Source) -> str:
    options = ExportOptions(name="hostile", num_golden=4, num_parity_seeds=9)
    networks = export_networks(source)
    graphs = build_graphs(source, networks)
    proof = prove(source, graphs, options)
    cases = make_half_cases(num_seeds=options.num_half_seeds, num_labels=0, truncation_max=TRUNCATION_MAX)
    expected = expect_half(source, cases, proof.images[FP32_FILE]).images
    batches = batch_sizes(options.max_batch_size)
    whole = judge_images(NodeByNode(fp16_network(networks.generator)), expected, batches)
    found = add_fp16(source, graphs, proof, options, report=lambda step: None)
    if found.no_fp16 is not None:
        return f"| {name} | {figures(whole)} | none: {found.no_fp16} | | |"
    plan = found.graphs.plans["sample"]
    num_nodes = len(networks.generator.graph.node)
    half = figures(found.proof.half["sample"])
    in_half = f"{num_nodes - len(plan.kept)} of {num_nodes}"
    return f"| {name} | {figures(whole)} | {half} | {in_half} | {len(plan.exponents)} |"


def hostile(names: list[str]) -> None:
    print("| generator | whole graph in fp16 | `--precision auto` | nodes in fp16 | layer pairs rescaled |")
    print("|---|---|---|---|---|", flush=True)
    for name in names or HOSTILE:
        print(hostile_row(name, hostile_source(name)), flush=True)


def seeds_row(checkpoint: Path, folder: Path) -> str:
    """A published fp16 file in half arithmetic against the fp32 file beside it."""
    source, certificate = load_checkpoint(checkpoint), Certificate.read(folder)
    if FP16_FILE not in certificate.files:
        raise GateError(f"{folder} has no fp16 file: {certificate.no_fp16}")
    cases = make_half_cases(num_seeds=NUM_SEEDS, num_labels=len(source.labels), truncation_max=TRUNCATION_MAX)
    inputs = sample_inputs(cases.seeds, cases.truncation, cases.labels)
    batch = certificate.max_batch_size
    (exact,) = CpuSession(folder / FP32_FILE).run_in_batches(inputs, batch)
    graph = NodeByNode(load_graph(folder / FP16_FILE))
    (half,) = graph.run_in_batches(inputs, batch)
    difference = np.abs(half.astype(np.int16) - exact.astype(np.int16)).reshape(len(half), -1)
    worst = int(np.argmax((difference.astype(np.int64) ** 2).sum(axis=1)))
    mse = float((difference[worst].astype(np.float64) ** 2).mean())
    psnr = "identical" if mse == 0 else f"{10 * np.log10(255**2 / mse):.1f} dB"
    return (
        f"| {certificate.name} | {len(half):,} | {difference.max()} | {difference.mean():.4f} | {psnr}, "
        f"{cases.describe(worst)} | {graph.half_peak()[1]:.4g} |"
    )


def seeds(arguments: list[str]) -> None:
    print("| model | images | max levels from fp32 | mean levels | worst image | largest half activation |")
    print("|---|---|---|---|---|---|", flush=True)
    for checkpoint, folder in zip(arguments[::2], arguments[1::2], strict=True):
        print(seeds_row(Path(checkpoint), Path(folder)), flush=True)


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    match arguments:
        case ["hostile", *names]:
            hostile(names)
        case ["seeds", _, _, *_] if len(arguments) % 2:
            seeds(arguments[1:])
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
