"""The reference optimizers of the leaderboard, and the problems on which they do not differ.

`python -m bench.references FOLDER` prints `RECOVERED` from a finished
leaderboard that has the references.
"""

from collections.abc import Mapping

from memsolve.study.leaderboard.tracks import Problem

REFERENCES = ("sgd", "torch.optim.AdamW", "muon", "newton:lr=1")
"""Optimizers whose recorded counts decide which problems are saturated."""

TOLERANCE = 0.1
"""A problem is saturated if every reference is within this share of the best of them."""

RECOVERED: Mapping[Problem, tuple[float, ...]] = {}
"""Items recovered by each of `REFERENCES`, mean over seeds, as recorded (measured)."""


def is_saturated(problem: Problem) -> bool:
    """Whether all references recover about as many items, so that the problem ranks noise.

    The rule depends on recorded constants alone, never on who else is compared. A problem without
    recorded counts is not saturated.
    """
    counts = RECOVERED.get(problem)
    return counts is not None and min(counts) >= (1 - TOLERANCE) * max(counts)
