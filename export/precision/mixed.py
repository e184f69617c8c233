"""The fp16 files of an export: planned by rule, proven in half arithmetic, searched where they fail."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from export.adapters.source import Source
from export.errors import GateError, InputError
from export.graph.build import Graphs, add_fp16_files
from export.options import ExportOptions
from export.precision.plan import Plan, plan_by_rule
from export.precision.search import NothingPassesError, Search
from export.proof.cases import make_half_cases
from export.proof.half_gate import Expected, HalfGateError, judge_images, judge_posterior
from export.proof.prove import HalfExpected, Proof, expect_half, prove_fp16
from ganvas_core.interface import TRUNCATION_MAX
from ganvas_core.names import FP32_FILE, Role
from ganvas_core.session import SessionError

__all__ = ["Mixed", "add_fp16"]

_MAX_ROUNDS = 4
"""Times that the search is given the worst seeds of a whole proof."""
_NUM_PROBES = 24
"""Cases that a search runs over, to begin with: the worst ones."""


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Graphs and their proof, with fp16 files if they passed."""

    graphs: Graphs
    proof: Proof
    no_fp16: str | None
    """Why there are none."""


def add_fp16(
    source: Source, graphs: Graphs, proof: Proof, options: ExportOptions, *, report: Callable[[str], None]
) -> Mixed:
    """Add the fp16 files to proven fp32 ones.

    Raises:
        InputError: --fp32-node names a node that no network has.
        GateError: --precision is fp16, and nothing passes.
    """
    networks: dict[Role, ModelProto] = {"sample": graphs.network.model}
    if graphs.encoder is not None:
        networks["encode"] = graphs.encoder.model
    _check_names(options.fp32_nodes, networks)
    try:
        return _add(source, graphs, proof, networks, options, report)
    except (GateError, NothingPassesError, SessionError) as error:
        reason = str(error)
        if options.precision == "fp16":
            raise GateError(
                f"no fp16 file passes its proof: {reason.rstrip('.')}. Export with --precision fp32, or auto."
            ) from None
        return Mixed(graphs=graphs, proof=proof, no_fp16=reason)


def _add(
    source: Source,
    graphs: Graphs,
    proof: Proof,
    networks: dict[Role, ModelProto],
    options: ExportOptions,
    report: Callable[[str], None],
) -> Mixed:
    report("proving fp16 in half arithmetic")
    cases = make_half_cases(
        num_seeds=options.num_half_seeds, num_labels=len(source.labels), truncation_max=TRUNCATION_MAX
    )
    expected = expect_half(source, cases, proof.images[FP32_FILE])
    plans = {
        role: plan_by_rule(network, keep_fp32=options.fp32_nodes, clip=options.clip_weights)
        for role, network in networks.items()
    }
    searches = {
        role: Search(
            network,
            judge_images if role == "sample" else judge_posterior,
            max_runs=options.max_search_runs,
            batch=options.max_batch_size,
            threads=options.threads,
        )
        for role, network in networks.items()
    }
    probes: dict[Role, list[int]] = {role: [] for role in networks}
    for _ in range(_MAX_ROUNDS):
        written = add_fp16_files(source, graphs, plans["sample"], plans.get("encode", Plan()))
        try:
            return Mixed(graphs=written, proof=prove_fp16(source, written, proof, expected, options), no_fp16=None)
        except HalfGateError as error:
            failure = error
        report("searching for the nodes that need float32")
        for role, verdict in failure.verdicts.items():
            if verdict.failures:
                new = [row for row in verdict.worst_rows.tolist() if row not in probes[role]]
                probes[role] += new[:_NUM_PROBES]
                probe = _expected(expected, role).at(np.array(probes[role], np.intp))
                plans[role] = searches[role].improve(plans[role], probe)
    raise failure


def _expected(expected: HalfExpected, role: Role) -> Expected:
    """What a role's network is held against. Its input is the float image where the file's is uint8."""
    if role == "sample":
        return expected.images
    assert expected.posterior is not None
    return expected.posterior


def _check_names(asked: Collection[str], networks: dict[Role, ModelProto]) -> None:
    existing = [node.name for network in networks.values() for node in network.graph.node]
    for name in asked:
        if name not in existing:
            raise InputError(f"--fp32-node {name} is not a node of the network. It has: {', '.join(existing)}.")
