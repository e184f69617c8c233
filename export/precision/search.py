"""Finds the smallest set of nodes to keep in float32 with which a network passes the gate in half arithmetic.

    rescale   what overflows half, or is lost below its smallest numbers, where that is exact
    keep      what still overflows
    rank      the other nodes, by the error that each alone causes at the output
    bisect    how many of the worst to keep
    drop      from the least harmful on, what the gate passes without

Each try is a run of the network over a few cases, and there is a limit to their number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from export.precision.plan import Plan, apply_plan, rounding_nodes
from export.precision.rescale import PEAK_LIMIT, choose_exponents, rescale
from export.progress import track
from export.proof.half import NodeByNode, SessionCache
from export.proof.half_gate import Expected, Verdict
from export.surgery.fp16 import nodes_out_of_range

__all__ = ["NothingPassesError", "Search"]

_MAX_GROUPS = 40
"""Of nodes that are ranked together, in networks of more."""

Judge = Callable[[NodeByNode, Expected, Sequence[int]], Verdict]


class NothingPassesError(Exception):
    """No set of nodes in float32 that leaves some in half lets the network pass, or none was found in time."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Nodes of one operator that are kept or left together."""

    nodes: tuple[NodeProto, ...]
    error: float


class Search:
    """One network and what it is held against.

    Args:
        judge: judge_images or judge_posterior.
        max_runs: runs of the network that the search may take.
    """

    def __init__(self, network: ModelProto, judge: Judge, *, max_runs: int, batch: int, threads: int = 1) -> None:
        self.network = network
        self.num_runs = 0
        self._judge, self._max_runs = judge, max_runs
        self._batch, self._threads = batch, threads
        self._sessions: SessionCache = {}

    def improve(self, plan: Plan, expected: Expected) -> Plan:
        """A plan with which the network passes over `expected`.

        Raises:
            NothingPassesError: says what stands in the way.
        """
        plan = self._without_overflow(plan, expected)
        verdict = self._try(plan, expected)
        if not verdict.failures:
            return plan
        groups = self._rank(plan, expected)
        count = self._bisect(plan, groups, expected)
        chosen = self._drop(plan, groups[:count], expected)
        return _with_groups(plan, chosen)

    def _without_overflow(self, plan: Plan, expected: Expected) -> Plan:
        """Rescale the pairs that need it, and keep what makes or reads a value that is still too large."""
        float32 = self._peaks(self.network, expected)
        exponents = dict(plan.exponents) | choose_exponents(rescale(self.network, plan.exponents), float32)
        network = rescale(self.network, exponents)
        peaks = self._peaks(network, expected) if exponents else float32
        kept = {name: reason for name, reason in plan.kept.items() if not reason.startswith("a weight of ")}
        if not plan.clip:
            kept |= nodes_out_of_range(network)
        for node in network.graph.node:
            large = max((peaks.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
            if large > PEAK_LIMIT and node.name not in kept:
                kept[node.name] = f"an activation of {large:.3g} is beyond {PEAK_LIMIT:.0f}, a quarter of half's range"
        return dataclasses.replace(plan, kept=kept, exponents=exponents)

    def _peaks(self, network: ModelProto, expected: Expected) -> dict[str, float]:
        """The largest size of every value in float32."""
        graph = NodeByNode(network, threads=self._threads, cache=self._sessions)
        graph.run_in_batches(expected.inputs, self._batch)
        self.num_runs += 1
        return graph.activations.peaks

    def _try(self, plan: Plan, expected: Expected) -> Verdict:
        if self.num_runs >= self._max_runs:
            raise NothingPassesError(f"nothing that passes was found in {self.num_runs} runs of the network")
        self.num_runs += 1
        graph = NodeByNode(apply_plan(self.network, plan), threads=self._threads, cache=self._sessions)
        return self._judge(graph, expected, [self._batch])

    def _rank(self, plan: Plan, expected: Expected) -> list[_Group]:
        """Groups of nodes in half, the worst first, each by the error that it alone causes."""
        every = rounding_nodes(self.network, plan)
        by_operator: dict[str, list[NodeProto]] = {}
        for node in every:
            by_operator.setdefault(node.op_type, []).append(node)
        size = math.ceil(len(every) / max(1, _MAX_GROUPS - len(by_operator)))
        groups = []
        parts = [
            tuple(nodes[start : start + size]) for nodes in by_operator.values() for start in range(0, len(nodes), size)
        ]
        for group in track(parts, "ranking the nodes by the error of each alone"):
            names = {node.name for node in group}
            alone = _keeping(plan, [node for node in every if node.name not in names], "")
            groups.append(_Group(nodes=group, error=self._try(alone, expected).error))
        return sorted(groups, key=lambda group: group.error, reverse=True)

    def _bisect(self, plan: Plan, groups: list[_Group], expected: Expected) -> int:
        """How many of the first groups to keep."""
        verdict = self._try(_with_groups(plan, groups), expected)
        if verdict.failures:
            raise NothingPassesError(f"even with every node that rounds in float32: {verdict.failures[0]}")
        low, high = 1, len(groups)
        while low < high:
            middle = (low + high) // 2
            if self._try(_with_groups(plan, groups[:middle]), expected).failures:
                low = middle + 1
            else:
                high = middle
        if high == len(groups):
            raise NothingPassesError("only with every node that rounds in float32 does it pass")
        return high

    def _drop(self, plan: Plan, kept: list[_Group], expected: Expected) -> list[_Group]:
        """Without the groups that it passes without."""
        for group in track(list(reversed(kept[:-1])), "trying each node without float32"):
            if self.num_runs >= self._max_runs:
                break
            fewer = [other for other in kept if other is not group]
            if not self._try(_with_groups(plan, fewer), expected).failures:
                kept = fewer
        return kept


def _keeping(plan: Plan, nodes: Sequence[NodeProto], reason: str) -> Plan:
    return dataclasses.replace(plan, kept=dict(plan.kept) | {node.name: reason for node in nodes})


def _with_groups(plan: Plan, groups: Sequence[_Group]) -> Plan:
    for group in groups:
        others = f" with {len(group.nodes) - 1} more {group.nodes[0].op_type}" if len(group.nodes) > 1 else ""
        size = f"{group.error:.3g}" if math.isfinite(group.error) else "infinite"
        plan = _keeping(plan, group.nodes, f"alone in half{others} its error at the output is {size} (rms)")
    return plan
