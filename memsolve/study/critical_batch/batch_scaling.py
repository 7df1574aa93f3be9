"""How the steps to a target fall with the batch size, and where they cease to: two definitions."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsolve.engine.results.estimate import (
    POSITIVE,
    Estimate,
    Floats,
    jackknife,
    require_identified,
)

OVERHEAD = 1.2
"""Steps over linear scaling at the critical batch size of Zhang et al."""

GOLDEN = (5**0.5 - 1) / 2
NARROWINGS = 64

Booleans = NDArray[np.bool_]


class Tuned(NamedTuple):
    """Steps to a target at each batch size, of the trial that needs the fewest.

    Attributes:
        steps: (R, K) mean over seeds; where a seed has not reached the target, its horizon counts,
            and the mean is a lower bound.
        reached: (R, K) whether every seed has.
    """

    steps: Floats
    reached: Booleans


class Model(NamedTuple):
    """The curve `S(B) = S_min (1 + B_crit / B)`.

    Attributes:
        floor: (R,) `S_min`.
        critical: (R,) `B_crit`.
        misfit: (R,) typical factor between the curve and what was measured; 1 is exact.
    """

    floor: Floats
    critical: Floats
    misfit: Floats


class BatchScaling:
    """The critical batch size of one memory size, from steps to a target at every batch size.

    Steps are arrays (R, S, K, T): sets of seeds, seeds, batch sizes, trials; `inf` where a run did
    not reach the target within the horizon, or was not made. Of the trials at a batch size the one
    with the fewest steps counts, chosen anew for every set of seeds.

    Args:
        batch_sizes: (K,), increasing, at least one of them finite; `inf` is the population.
        horizon: steps after which a run was given up.
    """

    def __init__(self, batch_sizes: Sequence[float], horizon: int) -> None:
        self.batch_sizes = np.array(batch_sizes, dtype=float)
        self.finite = np.isfinite(self.batch_sizes)
        self.horizon = horizon

    def tuned(self, steps: Floats) -> Tuned:
        """The trial with the fewest steps at every batch size."""
        place = best(steps)
        chosen = np.take_along_axis(steps, place[:, None, :, None], axis=3)[..., 0]
        counted = np.sort(np.minimum(chosen, self.horizon), axis=1)  # so that equal sets are equal
        return Tuned(counted.mean(1), np.asarray(np.isfinite(chosen).all(1)))

    def model(self, steps: Floats) -> Model:
        """The curve `S(B) = S_min (1 + B_crit / B)`; NaN where nothing reached the target.

        Least squares in logarithms (McCandlish et al. 2018 fit the same curve). A lower bound
        counts where the curve lies below it, and not where it is kept, so that a target that is
        not reached says what it says: at least so many steps.
        """
        tuned = self.tuned(steps)
        rows: Floats = np.concatenate(tuned, axis=1)
        distinct, places = np.unique(rows, axis=0, return_inverse=True)  # many rows are equal
        mean, reached = distinct[:, : len(self.finite)], distinct[:, len(self.finite) :] > 0
        fitted = np.full((3, len(distinct)), np.nan)
        known = reached.any(1)
        fitted[:, known] = self._model(mean[known], reached[known])
        return Model(*fitted[:, places.reshape(-1)])

    def critical(self, steps: Floats) -> Floats:
        """`B_crit` (R,); NaN where it lies outside of the batch sizes that reached the target."""
        return self._inside(self.model(steps).critical, self.tuned(steps).reached)

    def overhead(self, steps: Floats) -> Floats:
        """(R,) the batch size that takes 20% more steps than linear scaling (Zhang et al. 2024).

        Linear scaling starts at the batch size that reaches the target with the fewest examples,
        `B S(B)`. The first larger one with more steps than `1.2 S B / B'` and the one before it
        bracket the answer, which is interpolated in logarithms. It is NaN where there is no such
        bracket, and where the smallest batch scales linearly to no other. Where several batches
        need about the fewest examples, the one that starts is the luckiest, and intervals over
        seeds cover 84 to 96% (those of `critical` 94 to 99%, whatever is tuned; simulated).
        """
        mean, reached = self.tuned(steps)
        finite = self.batch_sizes[self.finite]
        examples = np.log(mean[:, self.finite] * finite)
        known = reached[:, self.finite]
        start = np.where(known, examples, np.inf).argmin(1)
        rows, places = np.arange(len(mean)), np.arange(len(finite))
        excess = examples - examples[rows, start][:, None] - np.log(OVERHEAD)
        over = (excess > 0) & (places > start[:, None])
        after = over.argmax(1)
        before = np.maximum(after - 1, 0)
        low, high = excess[rows, before], excess[rows, after]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = -low / (high - low)
        found = finite[before] * (finite[after] / finite[before]) ** share
        found = np.where(over.any(1), found, np.inf)
        unseen = (after == start + 1) & (start == known.argmax(1)) & over.any(1)
        return self._inside(np.where(unseen, 0.0, found), reached)

    def estimate(self, samples: Floats, statistic: Callable[[Floats], Floats]) -> Estimate:
        """A critical batch size of (S, K, T) steps, or why there is none."""
        reached = self.tuned(samples[None]).reached[0] & self.finite
        if not reached.any():
            return Estimate(None, note="not identified: no batch size reached the target")
        found = jackknife([samples], lambda draws: statistic(draws[0]), POSITIVE)
        low, high = self.batch_sizes[reached][[0, -1]]
        reason = f"not inside the batches that got there, {low:g} to {high:g}"
        return require_identified(found, low, high, reason)

    def _inside(self, found: Floats, reached: Booleans) -> Floats:
        """Estimates between the finite batch sizes that reached the target; NaN elsewhere."""
        finite = self.batch_sizes[self.finite]
        known = reached[:, self.finite]
        low, high = finite[known.argmax(1)], finite[::-1][known[:, ::-1].argmax(1)]
        inside: Floats = np.where((low < found) & (found < high), found, np.nan)
        return inside

    def _model(self, mean: Floats, reached: Booleans) -> Model:
        """The fit of every row, by golden-section search over `log B_crit`; see `model`."""
        sizes = np.log(self.batch_sizes)

        def level(log_critical: Floats) -> tuple[Floats, Floats]:
            """`log S_min` (R,) at a `B_crit`, and the squared error."""
            excess = np.log(mean) - np.logaddexp(0, log_critical[:, None] - sizes)
            counts = reached
            for _ in sizes:  # Newton's method from the left on a convex, piecewise linear function
                found = (excess * counts).sum(1) / counts.sum(1)
                counts = reached | (excess > found[:, None])
            error: Floats = ((excess - found[:, None]) ** 2 * counts).sum(1)
            return found, error

        first, last = sizes[self.finite][[0, -1]]
        coarse = np.arange(first - 2, last + 2.5, 0.5)
        errors = [level(np.full(len(mean), point))[1] for point in coarse]
        middle = coarse[np.argmin(errors, axis=0)]
        low, high = middle - 0.5, middle + 0.5
        for _ in range(NARROWINGS):
            span = GOLDEN * (high - low)
            left, right = high - span, low + span
            smaller = level(left)[1] < level(right)[1]
            low, high = np.where(smaller, low, left), np.where(smaller, right, high)
        log_critical = (low + high) / 2
        log_floor, error = level(log_critical)
        misfit = np.sqrt(error / reached.sum(1))
        return Model(np.exp(log_floor), np.exp(log_critical), np.exp(misfit))


def best(steps: Floats) -> NDArray[np.intp]:
    """(R, K) the trial with the fewest steps, mean over seeds, the first of equals.

    Of steps (R, S, K, T). A run that did not reach its target counts more than all that did.
    """
    reached = np.isfinite(steps)
    most = np.max(steps, where=reached, initial=1)
    counted: Floats = np.where(reached, steps, most * (1 + steps.shape[1])).mean(1)
    place: NDArray[np.intp] = counted.argmin(-1)
    return place
