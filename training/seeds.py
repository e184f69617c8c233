"""The seeds of a run's random streams, all derived from the one that the user gives: no stream repeats another."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.random import SeedSequence

__all__ = ["Purpose", "sub_seed"]

Purpose = Literal["weights", "noise", "order"]
"""Of the initial networks; of all that the training steps draw; of the images' order."""


def sub_seed(seed: int, purpose: Purpose, rank: int = 0) -> int:
    """A seed below 2**63 for one random stream of one process.

    Args:
        seed: of the run.  rank: of the process, where each needs a stream of its own.
    """
    sequence = SeedSequence(seed, spawn_key=(get_args(Purpose).index(purpose), rank))
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1
