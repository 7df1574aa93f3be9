"""How far two orders of the same optimizers agree: Kendall's tau with an interval."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from memsolve_kernels.errors import InputError
from scipy.stats import kendalltau, norm

from memsolve.study.leaderboard.ranking import Fits, ranked_tracks, scores

VARIANCE = 0.437
"""Of `atanh(tau)`, times `n - 4`, for `n` pairs of a bivariate normal distribution.

Fieller, Hartley and Pearson, Biometrika 44 (1957) 470 (published).
"""


class Agreement(NamedTuple):
    """The rank correlation of two scores of the same optimizers.

    Attributes:
        tau: Kendall's tau-b: 1 for the same order, 0 for unrelated orders, -1 for reversed ones;
            NaN if all values of a score are equal.
        low, high: 95% interval of `tau`, as if the optimizers were a random sample of all
            optimizers; -1 and 1 if there are fewer than five.
        p: probability of a tau at least as far from 0 for unrelated orders.
        num_common: number of optimizers with both scores.
    """

    tau: float
    low: float
    high: float
    p: float
    num_common: int

    def __str__(self) -> str:
        """As `0.42 [-0.12, 0.77]`."""
        return f"{self.tau:.2f} [{self.low:.2f}, {self.high:.2f}]"


def order_agreement(first: Mapping[str, float], second: Mapping[str, float]) -> Agreement:
    """The agreement of two scores by optimizer, over the optimizers that have both.

    Raises:
        InputError: fewer than two optimizers have both.
    """
    common = [name for name in first if name in second]
    if len(common) < 2:
        raise InputError(
            f"{len(common)} optimizers are in both {', '.join(first)} and {', '.join(second)}; "
            "expected at least two, under the same names"
        )
    tau, p = map(float, kendalltau([first[name] for name in common], [second[n] for n in common]))
    return Agreement(tau, *interval(tau, len(common)), p, len(common))


def agreement_by_track(values: Mapping[str, float], fits: Fits) -> dict[str, Agreement]:
    """The agreement of other values with the scores of a leaderboard, by track.

    Args:
        values: of optimizers, the best the largest.
        fits: of the leaderboard.

    Raises:
        InputError: fewer than two optimizers in common.
    """
    return {track: order_agreement(values, own) for track, own in score_values(fits).items()}


def score_values(fits: Fits) -> dict[str, dict[str, float]]:
    """The scores of a leaderboard by track and optimizer, of those that have one."""
    estimates = {track: scores(fits, track).items() for track in ranked_tracks(fits)}
    return {
        track: {name: each.value for name, each in by_name if each.value is not None}
        for track, by_name in estimates.items()
    }


def interval(tau: float, num: int) -> tuple[float, float]:
    """95% interval of Kendall's tau over `num` optimizers, by Fisher's transform."""
    if num < 5 or math.isnan(tau):
        return -1.0, 1.0
    most = 1 - 2 / (num * (num - 1))  # half a pair in disorder: the transform of 1 is infinite
    center = math.atanh(max(-most, min(tau, most)))
    half = float(norm.ppf(0.975)) * math.sqrt(VARIANCE / (num - 4))
    return min(tau, math.tanh(center - half)), max(tau, math.tanh(center + half))
