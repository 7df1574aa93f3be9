"""The score of an optimizer on a track, and the ranking by it."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from memsolve.engine import Fit
from memsolve.engine.results.estimate import COUNT, Estimate, Floats, jackknife
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.references import REFERENCES, is_saturated
from memsolve.study.leaderboard.tracks import RANKED, Problem

Fits = Sequence[Fit[LeaderboardPoint]]
Kind = tuple[frozenset[Problem], tuple[int, ...]]
"""The problems and the seeds with which an optimizer was measured on a track."""

ORDER = "minibatch", "full-gradient", "one-step"
"""The tracks with a ranking: a table has them in this order, and its rows in that of the first
one that was measured."""

OTHER_PROBLEMS = "measured on other problems"
"""Why an optimizer has no rank among others."""


def counts_by_problem(fits: Fits, track: str) -> dict[str, dict[Problem, list[int]]]:
    """Items recovered by optimizer, problem of a track, and seed."""
    counts: dict[str, dict[Problem, list[int]]] = {fit.optimizer: {} for fit in fits}
    for fit in fits:
        for point in fit.points:
            for problem, recovered in zip(point.problems(fit.alpha), point.recovered, strict=True):
                if problem.track == track:
                    counts[fit.optimizer][problem] = recovered
    return counts


def shares_of(fits: Fits, track: str) -> tuple[list[str], list[Problem], Floats]:
    """Items recovered as a share of `theory.limit`, by seed, problem and optimizer.

    Saturated problems are left out, as are optimizers that were measured on other problems of the
    track or with other seeds than the reference optimizers, or than most where there are none.

    Returns:
        Names (O,), problems (P,) and shares (S, P, O).
    """
    counts = counts_by_problem(fits, track)
    seeds = {fit.optimizer: tuple(fit.points[0].seeds) for fit in fits}
    kinds: dict[str, Kind] = {
        name: (frozenset(by_problem), seeds[name])
        for name, by_problem in counts.items()
        if by_problem
    }
    if not kinds:
        return [], [], np.zeros((0, 0, 0))
    common = common_kind(kinds)
    names = [name for name, kind in kinds.items() if kind == common]
    problems = [problem for problem in counts[names[0]] if not is_saturated(problem)]
    table = [
        [np.array(counts[name][problem]) / problem.limit for name in names] for problem in problems
    ]
    shares = np.array(table, dtype=float).reshape(len(problems), len(names), len(common[1]))
    return names, problems, shares.transpose(2, 0, 1)


def common_kind(kinds: Mapping[str, Kind]) -> Kind:
    """The problems and seeds on which optimizers are ranked.

    They are those of the reference optimizers, however many others there are. Where there are no
    references, they are those of most optimizers. Of several, those with most problems are taken,
    then the first.

    Args:
        kinds: problems and seeds of each optimizer, at least of one.
    """
    references = [kinds[name] for name in REFERENCES if name in kinds]
    if references:
        return max(references, key=lambda kind: len(kind[0]))
    values = list(kinds.values())
    return max(dict.fromkeys(values), key=lambda kind: (values.count(kind), len(kind[0])))


def scores(fits: Fits, track: str) -> dict[str, Estimate]:
    """The score of every optimizer on a track, the largest first.

    The score is the share of `theory.limit` that the optimizer recovers, mean over the problems of
    the track that are not saturated, with an interval over seeds. It depends on no other
    optimizer. One that was measured on other problems (`common_kind`) has a note in place of a
    score.
    """
    names, problems, shares = shares_of(fits, track)
    others = dict.fromkeys(fit.optimizer for fit in fits if fit.optimizer not in names)
    if not problems:
        note = "all problems saturated" if names else OTHER_PROBLEMS
        return dict.fromkeys([*names, *others], Estimate(None, note=note))

    def score(column: int) -> Estimate:
        return jackknife([shares[..., column]], lambda draws: draws[0].mean((1, 2)), COUNT)

    estimates = {name: score(column) for column, name in enumerate(names)}
    ranked = sorted(estimates.items(), key=lambda entry: -(entry[1].value or 0.0))
    return dict(ranked) | dict.fromkeys(others, Estimate(None, note=OTHER_PROBLEMS))


def rank(estimates: Mapping[str, Estimate], name: str) -> str:
    """The rank of an optimizer, the same for equal scores; `-` without a score."""
    own = estimates[name].value
    if own is None:
        return "-"
    return str(1 + sum((other.value or 0.0) > own for other in estimates.values()))


def in_order(fits: Fits) -> list[str]:
    """The optimizers in the order of rows: by the score in the first of the tracks `ORDER`.

    Those with equal scores, and those without a score, are in the order of `fits`.
    """
    names = list(dict.fromkeys(fit.optimizer for fit in fits))
    measured = ranked_tracks(fits)
    track = next((track for track in ORDER if track in measured), None)
    if track is None:
        return names
    values = {name: estimate.value for name, estimate in scores(fits, track).items()}

    def key(name: str) -> float:
        value = values[name]
        return math.inf if value is None else -value

    return sorted(names, key=key)


def largest_state(fits: Fits) -> float | None:
    """The size of an optimizer's state, the largest on any problem; None without a state."""
    states = [point.state for fit in fits for point in fit.points if point.state is not None]
    return max(states, default=None)


def ranked_tracks(fits: Fits) -> list[str]:
    """The tracks with a ranking that were measured, in the order of `tracks.RANKED`."""
    measured = tracks_of(fits)
    return [track for track in RANKED if track in measured]


def tracks_of(fits: Fits) -> list[str]:
    """The tracks that were measured, in order."""
    return list(dict.fromkeys(chain.from_iterable(p.tracks for fit in fits for p in fit.points)))
