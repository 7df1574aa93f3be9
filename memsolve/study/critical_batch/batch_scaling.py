"""The critical batch size from steps to a target at every batch size, by two definitions."""

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


class TunedSteps(NamedTuple):
    """Steps to a target at each batch size, of the candidate that needs the fewest.

    Attributes:
        steps: (R, K) mean over seeds; a seed that did not reach the target counts the horizon, so
            that the mean is a lower bound.
        reached: (R, K) whether every seed has reached the target.
    """

    steps: Floats
    reached: Booleans


class Model(NamedTuple):
    """The curve `S(B) = S_min (1 + B_crit / B)`.

    Attributes:
        floor: (R,) `S_min`.
        critical: (R,) `B_crit`.
        misfit: (R,) typical factor between the curve and the measured steps; 1 is exact.
    """

    floor: Floats
    critical: Floats
    misfit: Floats


class BatchScaling:
    """The critical batch size of one memory size, from steps to a target at every batch size.

    Steps are arrays (R, S, K, T): resamples, seeds, batch sizes, candidates; `inf` where a run did
    not reach the target within the horizon, or does not exist. At each batch size the candidate
    with the fewest steps counts, selected anew for every resample.

    Args:
        batch_sizes: (K,), increasing, at least one of them finite; `inf` is the population.
        horizon: steps after which a run is given up.
    """

    def __init__(self, batch_sizes: Sequence[float], horizon: int) -> None:
        self.batch_sizes = np.array(batch_sizes, dtype=float)
        self.finite = np.isfinite(self.batch_sizes)
        self.horizon = horizon

    def tuned(self, steps: Floats) -> TunedSteps:
        """The steps of the candidate with the fewest, at every batch size."""
        index = fewest_steps(steps)
        selected = np.take_along_axis(steps, index[:, None, :, None], axis=3)[..., 0]
        bounded = np.minimum(selected, self.horizon)
        bounded.sort(axis=1)  # so that resamples of equal seeds have equal means
        return TunedSteps(bounded.mean(1), np.asarray(np.isfinite(selected).all(1)))

    def model(self, steps: Floats) -> Model:
        """The curve `S(B) = S_min (1 + B_crit / B)`; NaN where nothing reached the target.

        Least squares in logarithms (McCandlish et al. 2018 fit the same curve). A lower bound adds
        an error only where the curve lies below it, since a target that is not reached says no
        more than that at least this many steps are needed.
        """
        tuned = self.tuned(steps)
        rows: Floats = np.concatenate(tuned, axis=1)
        distinct, inverse = np.unique(rows, axis=0, return_inverse=True)  # many rows are equal
        mean, reached = distinct[:, : len(self.finite)], distinct[:, len(self.finite) :] > 0
        fitted = np.full((3, len(distinct)), np.nan)
        any_reached = reached.any(1)
        fitted[:, any_reached] = self._model(mean[any_reached], reached[any_reached])
        return Model(*fitted[:, inverse.reshape(-1)])

    def critical(self, steps: Floats) -> Floats:
        """`B_crit` (R,); NaN where it lies outside the batch sizes that reached the target."""
        return self._inside(self.model(steps).critical, self.tuned(steps).reached)

    def overhead(self, steps: Floats) -> Floats:
        """(R,) the batch size that takes 20% more steps than linear scaling (Zhang et al. 2024).

        Linear scaling starts at the batch size that reaches the target with the fewest examples,
        `B S(B)`. The first larger one with more steps than `1.2 S B / B'` and the one before it
        bracket the estimate, which is interpolated in logarithms. It is NaN without such a
        bracket, and where not even the second batch size scales linearly from the smallest. Where
        several batch sizes need about the fewest examples, the start is selected by chance, and
        intervals over seeds cover 84 to 96% in simulations (those of `critical` 94 to 99%).
        """
        mean, reached = self.tuned(steps)
        finite = self.batch_sizes[self.finite]
        examples = np.log(mean[:, self.finite] * finite)
        reached_finite = reached[:, self.finite]
        start = np.where(reached_finite, examples, np.inf).argmin(1)
        rows, columns = np.arange(len(mean)), np.arange(len(finite))
        excess = examples - examples[rows, start][:, None] - np.log(OVERHEAD)
        over = (excess > 0) & (columns > start[:, None])
        after = over.argmax(1)
        before = np.maximum(after - 1, 0)
        low, high = excess[rows, before], excess[rows, after]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = -low / (high - low)
        estimates = finite[before] * (finite[after] / finite[before]) ** share
        estimates = np.where(over.any(1), estimates, np.inf)
        below_grid = (after == start + 1) & (start == reached_finite.argmax(1)) & over.any(1)
        return self._inside(np.where(below_grid, 0.0, estimates), reached)

    def estimate(self, samples: Floats, statistic: Callable[[Floats], Floats]) -> Estimate:
        """A critical batch size of (S, K, T) steps, or why there is none."""
        reached = self.tuned(samples[None]).reached[0] & self.finite
        if not reached.any():
            return Estimate(None, note="not identified: no batch size reached the target")
        estimate = jackknife([samples], lambda draws: statistic(draws[0]), POSITIVE)
        low, high = self.batch_sizes[reached][[0, -1]]
        reason = f"not inside the batch sizes that reached the target, {low:g} to {high:g}"
        return require_identified(estimate, low, high, reason)

    def _inside(self, estimates: Floats, reached: Booleans) -> Floats:
        """Estimates between the finite batch sizes that reached the target; NaN elsewhere."""
        finite = self.batch_sizes[self.finite]
        of_finite = reached[:, self.finite]
        low, high = finite[of_finite.argmax(1)], finite[::-1][of_finite[:, ::-1].argmax(1)]
        inside: Floats = np.where((low < estimates) & (estimates < high), estimates, np.nan)
        return inside

    def _model(self, mean: Floats, reached: Booleans) -> Model:
        """The fit of every row, by golden-section search over `log B_crit`; see `model`."""
        sizes = np.log(self.batch_sizes)

        def level(log_critical: Floats) -> tuple[Floats, Floats]:
            """`log S_min` (R,) at a `B_crit`, and the squared error."""
            excess = np.log(mean) - np.logaddexp(0, log_critical[:, None] - sizes)
            counts = reached
            for _ in sizes:  # Newton's method from the left on a convex, piecewise linear function
                log_floor = (excess * counts).sum(1) / counts.sum(1)
                counts = reached | (excess > log_floor[:, None])
            error: Floats = ((excess - log_floor[:, None]) ** 2 * counts).sum(1)
            return log_floor, error

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


def fewest_steps(steps: Floats) -> NDArray[np.intp]:
    """(R, K) the index of the candidate with the fewest steps, mean over seeds, the first of ties.

    Args:
        steps: (R, S, K, T). A run that did not reach its target counts more than all that did.
    """
    reached = np.isfinite(steps)
    most = np.max(steps, where=reached, initial=1)
    counted: Floats = np.where(reached, steps, most * (1 + steps.shape[1])).mean(1)
    index: NDArray[np.intp] = counted.argmin(-1)
    return index
