"""The search over learning rate and growth of the geometric schedule: one budget for everybody.

A candidate is searched in two coordinates, both base 2 logarithms: the mean of its learning rates
over the steps, relative to a unit, and the growth from its first to its last learning rate. The
first `FIRST` candidates are spread over a box by a Sobol sequence. The following ones come in
`ROUNDS` rounds of `PER_ROUND`, each from a box around the best so far whose sides are half as long
as before; such a box may reach beyond the first one.
"""

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

from torch.quasirandom import SobolEngine

from memsolve.study.training.grid import Candidate, mean_lr
from memsolve.training import mean_factor


class Box(NamedTuple):
    """The smallest and largest coordinates of the first candidates.

    Attributes:
        log_mean: by default a quarter of the unit to 64 times it.
        log_growth: by default a 64th to 1024 times.
    """

    log_mean: tuple[float, float] = (-2.0, 6.0)
    log_growth: tuple[float, float] = (-6.0, 10.0)


BOX = Box()

LOG_GROWTHS = range(-6, 11, 2)
"""Growths that are tried where the user sets the first learning rate."""

FIRST, PER_ROUND, ROUNDS = 12, 4, 3

SEARCH_BUDGET = FIRST + PER_ROUND * ROUNDS
"""Candidates that are tried."""


def first_candidates(unit: float, steps: int, box: Box = BOX) -> list[Candidate]:
    """The candidates of the first box.

    Args:
        unit: the mean learning rate at coordinate 0.
        steps: number of steps of a run.
        box: the first box.
    """
    log_mean, log_growth = (sum(ends) / 2 for ends in box)
    return _around(geometric(unit * 2**log_mean, log_growth, steps), 0, steps, box)


def next_candidates(
    best: Candidate, tried: Collection[Candidate], steps: int, box: Box = BOX
) -> list[Candidate]:
    """The candidates of the next round; none once the budget is spent.

    Args:
        best: so far.
        tried: all candidates so far.
        steps: number of steps of a run.
        box: the first box.
    """
    round_ = 1 + math.ceil((len(tried) - FIRST) / PER_ROUND)
    if round_ > ROUNDS:
        return []
    return [each for each in _around(best, round_, steps, box) if each not in tried]


def candidates_of(lrs: Iterable[float], steps: int) -> list[Candidate]:
    """The candidates of first learning rates that the user sets, each with every growth."""
    ratios = dict.fromkeys(ratio_of(log_growth, steps) for log_growth in LOG_GROWTHS)
    return [Candidate("geometric", lr, ratio) for lr in lrs for ratio in ratios]


def geometric(mean: float, log_growth: float, steps: int) -> Candidate:
    """The candidate of a mean learning rate and a growth from the first step to the last."""
    ratio = ratio_of(log_growth, steps)
    return Candidate("geometric", round_lr(mean / mean_factor("geometric", steps, ratio)), ratio)


def ratio_of(log_growth: float, steps: int) -> float:
    """The ratio of a growth over the steps, rounded to six digits; 1 for a single step."""
    return float(f"{2 ** (log_growth / (steps - 1)):.5e}") if steps > 1 else 1.0


def round_lr(lr: float) -> float:
    """A learning rate, rounded to two digits."""
    return float(f"{lr:.1e}")


def _around(center: Candidate, round_: int, steps: int, box: Box) -> list[Candidate]:
    """The candidates of a round, in a box around one of them."""
    engine = SobolEngine(dimension=2)
    engine.fast_forward(1 if round_ == 0 else 1 + FIRST + PER_ROUND * (round_ - 1))
    sides = [(high - low) / 2**round_ for low, high in box]
    mean, log_growth = mean_lr(center, steps), (steps - 1) * math.log2(center.ratio)
    return [
        geometric(mean * 2 ** (sides[0] * (x - 0.5)), log_growth + sides[1] * (y - 0.5), steps)
        for x, y in engine.draw(FIRST if round_ == 0 else PER_ROUND).tolist()
    ]
