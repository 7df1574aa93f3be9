"""The candidates of `rates`: what the search tries next, and what is reported."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from memsolve.engine.results.estimate import Floats
from memsolve.study.rates.grid import MOST_MEMORIES, RatesKey, RatesTrial
from memsolve.study.training import search
from memsolve.study.training.grid import Candidate

NEARLY = 0.98
"""Share of the most items recovered that saves a run of its own."""


@dataclass(frozen=True)
class RatesRun:
    """The outcome of a run.

    Attributes:
        gradient: `exact` or `thresholded`.
        recovered: items recovered, of all `N`, after each step; shorter than the trial's steps if
            the run ended early.
        failed: why a step failed, which ended the run; empty if none did.
    """

    gradient: str
    recovered: list[int] = field(default_factory=list)
    failed: str = ""


Runs = Mapping[RatesTrial, RatesRun]


def rates_key(trial: RatesTrial) -> RatesKey:
    """The key at which a trial is tuned."""
    return RatesKey(trial.optimizer, trial.alpha, trial.dim, trial.gradient)


def by_key(results: Runs) -> dict[RatesKey, dict[RatesTrial, RatesRun]]:
    """Results, grouped by key."""
    groups: dict[RatesKey, dict[RatesTrial, RatesRun]] = {}
    for trial, run in results.items():
        groups.setdefault(rates_key(trial), {})[trial] = run
    return groups


def with_items(runs: Runs, num_items: int) -> dict[RatesTrial, RatesRun]:
    """The runs on memories of so many facts: those of the search, or those that are reported."""
    return {trial: run for trial, run in runs.items() if trial.num_items == num_items}


def counts_after(runs: Runs, step: int) -> dict[Candidate, Floats]:
    """(S,) items recovered after a step, by every candidate whose runs have at least that many.

    Of each seed the mean over its memories. A run that ended before counts 0. Runs of one candidate
    with several numbers of steps agree on the steps that they share, so any of them counts.
    """
    counts: dict[Candidate, dict[int, int]] = {}
    for trial, run in runs.items():
        if trial.steps >= step:
            count = run.recovered[step - 1] if len(run.recovered) >= step else 0
            counts.setdefault(trial.candidate, {})[trial.seed] = count
    return {candidate: _by_seed(memories) for candidate, memories in counts.items()}


def _by_seed(counts: Mapping[int, int]) -> Floats:
    """(S,) mean counts of seeds, increasing, from those of their memories."""
    seeds: dict[int, list[int]] = {}
    for memory_seed in sorted(counts):
        seeds.setdefault(memory_seed // MOST_MEMORIES, []).append(counts[memory_seed])
    return np.array([np.mean(memories) for memories in seeds.values()])


def best_after(runs: Runs, step: int) -> Candidate:
    """The candidate with the most items recovered after a step, mean over seeds; the first such."""
    counts = counts_after(runs, step)
    return max(counts, key=lambda candidate: float(counts[candidate].mean()))


def box_of(steps: int) -> search.Box:
    """The first box of the search for a few steps.

    SGD's learning rates grow by up to `sqrt(d)` a step until it has recovered about `d` items, so
    the box reaches further up than that of long runs, but not beyond a factor 32 a step.
    """
    log_growth = max(-6.0, -2.0 * (steps - 1)), min(14.0, 5.0 * (steps - 1))
    return search.Box((-2.0, 7.0), log_growth)


def first_candidates(unit: float, steps: int) -> list[Candidate]:
    """The candidates to begin with; one for a single step, which needs no tuning."""
    if steps == 1:
        return [search.geometric(unit, 0, 1)]
    return search.first_candidates(unit, steps, box_of(steps))


def next_candidates(runs: Runs, steps: int) -> list[Candidate]:
    """The next candidates of the search for a number of steps; none once its budget is spent."""
    own = {trial: run for trial, run in runs.items() if trial.steps == steps}
    if steps == 1:
        return []
    candidates = list(dict.fromkeys(trial.candidate for trial in own))
    return search.next_candidates(best_after(own, steps), candidates, steps, box_of(steps))


def reported_candidates(runs: Runs, steps: int) -> dict[Candidate, int]:
    """The candidates to report, with the last step for which each is the best of the search.

    From the last step to the first, a candidate that is reported anyway is enough where it recovers
    `NEARLY` as many items as the best.
    """
    reported: dict[Candidate, int] = {}
    for step in range(steps, 0, -1):
        means = {each: float(seeds.mean()) for each, seeds in counts_after(runs, step).items()}
        best = max(means, key=lambda candidate: means[candidate])
        if all(means[candidate] < NEARLY * means[best] for candidate in reported):
            reported[best] = step
    return reported
