"""The selection of a schedule and a learning rate from races: the fewest steps to the target."""

from collections.abc import Mapping, Sequence

import numpy as np

from memsolve.engine.results.estimate import Floats
from memsolve.study.critical_batch.batch_scaling import fewest_steps
from memsolve.study.critical_batch.race import RaceResult
from memsolve.study.training.grid import Candidate, Trial
from memsolve.study.training.selection import Selection, distance_from_middle, lrs_by_schedule

RacesByTrial = Mapping[Trial, RaceResult]
"""The races at one batch size."""


def select_by_steps(races: RacesByTrial, horizon: int) -> Selection:
    """The candidate with the fewest steps to the target, mean over seeds.

    Ties are broken by the learning rate nearer to the middle of its schedule's. A race that did
    not reach the target counts more than all that did. If none did, the candidate that came
    nearest is selected, and is not at an edge, so that tuning ends.
    """
    candidates, steps = ordered_candidates(races), steps_table([races])
    if np.isfinite(steps).any():
        best = candidates[int(fewest_steps(steps[None])[0, 0])]
        return Selection.of(best, candidates, horizon)

    def distance(candidate: Candidate) -> float:
        distances = [
            result.distance for trial, result in races.items() if trial.candidate == candidate
        ]
        return float(np.mean(distances))

    return Selection(*min(candidates, key=distance), edges=())


def ordered_candidates(races: RacesByTrial) -> list[Candidate]:
    """The candidates at one batch size, from the middle learning rate outwards."""
    candidates = {trial.candidate for trial in races}
    lrs = lrs_by_schedule(candidates)

    def order(candidate: Candidate) -> tuple[float, float, str, float]:
        schedule, lr, ratio = candidate
        return distance_from_middle(lrs[schedule], lr), lr, schedule, ratio

    return sorted(candidates, key=order)


def steps_table(races_by_batch_size: Sequence[RacesByTrial]) -> Floats:
    """(S, K, T) steps by seed, batch size and candidate; `inf` if the target was not reached."""
    candidates = [ordered_candidates(races) for races in races_by_batch_size]
    seeds = 1 + max(trial.seed for races in races_by_batch_size for trial in races)
    steps = np.full((seeds, len(races_by_batch_size), max(map(len, candidates))), np.inf)
    for index, races in enumerate(races_by_batch_size):
        for trial, result in races.items():
            if result.steps is not None:
                column = candidates[index].index(trial.candidate)
                steps[trial.seed, index, column] = result.steps
    return steps
