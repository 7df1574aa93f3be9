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

RECOVERED: Mapping[Problem, tuple[float, ...]] = {
    Problem("one-step", 1.2, 32, 2048, None, 1): (5.0, 5.4, 19.2, 21.2),
    Problem("one-step", 1.2, 64, 8192, None, 1): (9.6, 9.8, 51.0, 54.4),
    Problem("one-step", 1.2, 128, 32768, None, 1): (15.4, 15.4, 133.4, 125.2),
    Problem("one-step", 1.5, 32, 2048, None, 1): (4.2, 4.0, 19.0, 23.2),
    Problem("one-step", 1.5, 64, 8192, None, 1): (6.0, 6.4, 50.2, 55.4),
    Problem("one-step", 1.5, 128, 32768, None, 1): (8.6, 10.0, 125.4, 130.8),
    Problem("one-step", 2.0, 32, 2048, None, 1): (2.8, 2.0, 17.8, 24.8),
    Problem("one-step", 2.0, 64, 8192, None, 1): (4.4, 6.0, 49.0, 58.6),
    Problem("one-step", 2.0, 128, 32768, None, 1): (5.6, 6.8, 116.6, 133.8),
    Problem("full-gradient", 1.2, 32, 2048, None, 10): (36.0, 33.0, 34.8, 34.4),
    Problem("full-gradient", 1.5, 32, 2048, None, 10): (33.6, 24.4, 42.0, 40.4),
    Problem("full-gradient", 1.5, 32, 2048, None, 50): (48.2, 38.0, 40.8, 40.4),
    Problem("full-gradient", 1.5, 64, 8192, None, 10): (82.2, 70.8, 137.0, 137.4),
    Problem("full-gradient", 2.0, 32, 2048, None, 10): (21.4, 16.0, 48.6, 49.4),
    Problem("minibatch", 1.2, 32, 2048, 23, 300): (33.2, 29.6, 49.4, 14.0),
    Problem("minibatch", 1.2, 32, 2048, 362, 300): (35.2, 31.2, 34.8, 16.8),
    Problem("minibatch", 1.5, 32, 2048, 64, 300): (48.8, 36.0, 55.8, 22.8),
    Problem("minibatch", 1.5, 32, 2048, 1024, 300): (52.2, 38.6, 40.2, 28.2),
    Problem("minibatch", 1.5, 64, 8192, 256, 300): (161.0, 114.4, 171.4, 61.6),
    Problem("minibatch", 2.0, 32, 2048, 362, 300): (49.0, 36.2, 63.0, 23.8),
    Problem("minibatch", 2.0, 32, 2048, 5793, 300): (50.4, 38.6, 53.4, 34.2),
}
"""Items recovered by each of `REFERENCES`, mean over seeds, as recorded (measured)."""


def is_saturated(problem: Problem) -> bool:
    """Whether all references recover about as many items, so that the problem ranks noise.

    The rule depends on recorded constants alone, never on who else is compared. A problem without
    recorded counts is not saturated.
    """
    counts = RECOVERED.get(problem)
    return counts is not None and min(counts) >= (1 - TOLERANCE) * max(counts)
