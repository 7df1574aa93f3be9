"""Differences between the scores of optimizers on a track, with a test that is paired by memory.

The score of an optimizer is the share of theory's limit that it recovers, mean over the problems of
a track. The independent unit is a memory, that is a seed at one `d`: problems at the same seed and
`d` share embeddings, so a *block* is the mean over them. Two optimizers meet the same memories, so
the differences of their blocks are tested. The dimensions of a track are fixed: a difference may
depend on `d`, and only its variation over seeds is noise.

The rule for "better than", and the simulations behind the test, are in `docs/comparing.md`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from memsolve_kernels.errors import ShapeError
from numpy.typing import NDArray

from memsolve.engine.results.estimate import EQUAL_SEEDS, LEVEL, ROUNDING, Estimate, Floats

SIGNIFICANCE = 1 - LEVEL
"""One optimizer is better than another if the corrected p is below this."""

DRAWS = 10_000
"""Resampled rankings behind the probabilities of ranks."""


class Blocks(NamedTuple):
    """The scores of optimizers on a track, by memory.

    Attributes:
        names: (O,) optimizers.
        weights: (D,) the share of the problems that is at each `d`.
        scores: (D, S, O) by `d`, seed and optimizer, each the mean over the problems of the block.
    """

    names: list[str]
    weights: Floats
    scores: Floats

    @property
    def means(self) -> Floats:
        """(O,) the scores of optimizers: the mean over all problems and seeds."""
        return np.asarray(self.weights @ self.scores.mean(1))

    @property
    def memories(self) -> int:
        """How many blocks there are."""
        return int(np.prod(self.scores.shape[:2]))

    @property
    def order(self) -> list[str]:
        """Names, the largest score first."""
        return [self.names[index] for index in np.argsort(-self.means, kind="stable")]

    def column(self, name: str) -> Floats:
        """(D, S) the blocks of an optimizer."""
        return self.scores[:, :, self.names.index(name)]


class Difference(NamedTuple):
    """The score of one optimizer minus that of another.

    Attributes:
        first, second: their names.
        estimate: the difference, with a simultaneous 95% interval (Bonferroni).
        p: two-sided, corrected for the number of pairs by Holm; None where there is no test.
    """

    first: str
    second: str
    estimate: Estimate
    p: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the two can be distinguished."""
        return self.p is not None and self.p < SIGNIFICANCE


class PairTest(NamedTuple):
    """A difference with its standard error; `p` is not corrected, None where there is no test."""

    value: float
    error: float
    freedom: float
    p: float | None


def blocks(names: Sequence[str], dims: Sequence[int], shares: Floats) -> Blocks:
    """The blocks of a track.

    Args:
        names: (O,) optimizers.
        dims: (P,) the `d` of each problem.
        shares: (S, P, O) of theory's limit, by seed, problem and optimizer.

    Raises:
        ShapeError: the shares have another shape, or hold none.
    """
    if shares.ndim != 3 or shares.shape[1:] != (len(dims), len(names)) or not shares.size:
        raise ShapeError(
            f"shares has the shape {shares.shape}; expected (seeds, {len(dims)}, {len(names)}), "
            "with at least one seed, problem and optimizer"
        )
    at = {dim: np.array(dims) == dim for dim in sorted(set(dims))}
    weights = np.array([each.mean() for each in at.values()])
    return Blocks(list(names), weights, np.array([shares[:, each].mean(1) for each in at.values()]))


def differences(track: Blocks, pairs: Iterable[tuple[str, str]] | None = None) -> list[Difference]:
    """Test the differences of pairs of optimizers.

    The test is Student's of the paired differences, stratified by `d` with weights `w_d`: the
    variance of the mean is the sum of `w_d^2 s_d^2 / S`, and its degrees of freedom are those of
    Welch and Satterthwaite. Each pair has a variance of its own, so a noisy optimizer does not
    widen the intervals of others.

    Args:
        track: the blocks.
        pairs: to be compared; by default all, the better optimizer first. The correction is for
            their number.
    """
    pair_list = list(combinations(track.order, 2) if pairs is None else pairs)
    tests = pair_tests(track, pair_list)
    tail = SIGNIFICANCE / 2 / max(1, len(pair_list))
    return [
        Difference(first, second, _estimate(test, tail), p)
        for (first, second), test, p in zip(
            pair_list, tests, holm([test.p for test in tests]), strict=True
        )
    ]


def pair_tests(track: Blocks, pairs: Sequence[tuple[str, str]]) -> list[PairTest]:
    """Student's paired test of each pair, stratified by `d`."""
    from scipy import special  # late: a worker estimates nothing

    if not pairs:
        return []
    first, second = (
        [track.names.index(name) for name in names] for names in zip(*pairs, strict=True)
    )
    changes = track.scores[:, :, first] - track.scores[:, :, second]
    seeds = changes.shape[1]
    values = track.weights @ changes.mean(1)
    if seeds < 2:
        return [PairTest(float(value), np.nan, 0, None) for value in values]
    variances = np.square(track.weights)[:, None] * changes.var(1, ddof=1) / seeds
    errors = np.sqrt(variances.sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        freedoms = variances.sum(0) ** 2 / (np.square(variances).sum(0) / (seeds - 1))
        p_values = 2 * special.stdtr(freedoms, -abs(values) / errors)
    return [
        PairTest(value, error, freedom, p)
        if error > ROUNDING
        else PairTest(value, 0.0, 0, 1.0 if abs(value) <= ROUNDING else None)
        for value, error, freedom, p in np.column_stack(
            [values, errors, freedoms, p_values]
        ).tolist()
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrected for their number (Holm 1979, *A simple sequentially rejective procedure*).

    None stays None, and counts as a comparison.
    """
    count, largest = len(p_values), 0.0
    corrections: list[float | None] = [None] * count
    ordered = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    for rank, (p, index) in enumerate(ordered):
        largest = max(largest, min(1.0, (count - rank) * p))
        corrections[index] = largest
    return corrections


def indistinct(track: Blocks, results: Iterable[Difference]) -> dict[str, list[str]]:
    """The optimizers from which each one cannot be distinguished, itself among them.

    Args:
        track: the blocks.
        results: of all pairs.

    Returns:
        By name; the largest score first, in each list and of the lists.
    """
    order = track.order
    distinct = {frozenset((each.first, each.second)) for each in results if each.is_significant}
    return {
        name: [other for other in order if frozenset((name, other)) not in distinct]
        for name in order
    }


def rank_ranges(track: Blocks, results: Iterable[Difference]) -> dict[str, tuple[int, int]]:
    """The first and the last rank of each optimizer that the test does not exclude.

    Those above it are significantly better, those below it significantly worse; all ranges
    together hold with 95% confidence (Mogstad et al. 2024, *Inference for Ranks*).

    Args:
        track: the blocks.
        results: of all pairs, the better optimizer first.
    """
    significant = [each for each in results if each.is_significant]
    better = Counter(each.second for each in significant)
    worse = Counter(each.first for each in significant)
    return {name: (1 + better[name], len(track.names) - worse[name]) for name in track.order}


def rank_probabilities(track: Blocks, draws: int = DRAWS) -> NDArray[np.float64]:
    """(O, O) the probability of each optimizer, in the order of `names`, to have each rank.

    Seeds are drawn with replacement at each `d`, the same for all optimizers. A draw of `S` seeds
    varies too little by `(S - 1) / S`, so its deviation from the mean is enlarged by the root of
    the inverse. Equal scores share the ranks. With one seed there is nothing to resample, and the
    ranks are those of the scores.
    """
    generator = np.random.default_rng(0)
    _, seeds, count = track.scores.shape
    enlarge = np.sqrt(seeds / max(1, seeds - 1))
    deviations = track.scores - track.scores.mean(1, keepdims=True)
    scores = np.repeat(track.means[None], draws, 0)
    for weight, deviation in zip(track.weights, deviations, strict=True):
        draw = generator.integers(seeds, size=(draws, seeds))
        times = (draw[:, :, None] == np.arange(seeds)).mean(1)
        scores += weight * enlarge * times @ deviation
    return _share_of_ranks(np.round(scores, 12), count)


def _share_of_ranks(scores: Floats, count: int) -> Floats:
    """(O, O) how often each optimizer has each rank, in (R, O) scores."""
    above = (scores[:, None, :] > scores[:, :, None]).sum(2)
    equal = (scores[:, None, :] == scores[:, :, None]).sum(2)
    has_rank = [(above <= rank) & (rank < above + equal) for rank in range(count)]
    return np.array([(has / equal).mean(0) for has in has_rank]).T


def _estimate(test: PairTest, tail: float) -> Estimate:
    from scipy import special

    if test.p is None and not np.isfinite(test.error):
        return Estimate(test.value, note="one seed, no interval")
    if test.error == 0:
        return Estimate(test.value, note=EQUAL_SEEDS)
    reach = float(special.stdtrit(test.freedom, 1 - tail)) * test.error
    return Estimate(test.value, test.value - reach, test.value + reach)
