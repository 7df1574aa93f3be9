"""The tuning of every optimizer on every problem: one rule and one budget.

Candidates are searched on the first seed of the tuning. The best `FINALISTS` of them run on its
other seeds, too. The one that recovers most, mean over the seeds of the tuning, is selected, and
runs on the seeds that are shown. Ties are broken by the lower loss.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from memsolve.engine import Cell
from memsolve.engine.prepare import RefusedError
from memsolve.faults import StepError, attribute_errors
from memsolve.optimizers.lr_behavior import builder_of_run, lr_behavior
from memsolve.optimizers.registry import builder
from memsolve.optimizers.requirements import tiny_objective
from memsolve.seeds import seeded
from memsolve.study.leaderboard.candidates import (
    LeaderboardCandidate,
    edges_of,
    first_candidates,
    next_candidates,
    space_of,
)
from memsolve.study.leaderboard.grid import DEFAULTS, LeaderboardGrid, LeaderboardTrial
from memsolve.study.leaderboard.momentum import NAMES, momentum_of
from memsolve.study.leaderboard.tracks import Problem
from memsolve.study.leaderboard.trial_run import LeaderboardRun, Runs
from memsolve.study.memory import memory_of
from memsolve.study.training.tuning import first_moved_weight
from memsolve.theory import weight_norm
from memsolve.training import Schedule, Trainer

FINALISTS = 4
"""Candidates that run on all seeds of the tuning."""

UNIT_ITEMS = 2048
"""Facts of the memory that gives the unit of learning rates, at most."""


class LeaderboardKey(NamedTuple):
    """An optimizer is tuned for each problem alone."""

    optimizer: str
    problem: Problem


class LeaderboardSelection(NamedTuple):
    """The selected candidate at a key.

    Attributes:
        candidate: the best.
        edges: directions in which it is outermost, as in `candidates.edges_of`.
        num_candidates: number of candidates that were tried.
    """

    candidate: LeaderboardCandidate
    edges: list[str]
    num_candidates: int


def key_of(trial: LeaderboardTrial) -> LeaderboardKey:
    """The key at which a trial is tuned."""
    return LeaderboardKey(trial.optimizer, trial.problem)


def by_key(results: Runs) -> dict[LeaderboardKey, dict[LeaderboardTrial, LeaderboardRun]]:
    """Runs, grouped by key."""
    groups: dict[LeaderboardKey, dict[LeaderboardTrial, LeaderboardRun]] = {}
    for trial, run in results.items():
        groups.setdefault(key_of(trial), {})[trial] = run
    return groups


def trials_of(
    key: LeaderboardKey, candidate: LeaderboardCandidate, seeds: Iterable[int], *, shown: bool
) -> list[LeaderboardTrial]:
    """The trials of a candidate, one for each seed."""
    track, alpha, dim, num_items, batch_size, steps = key.problem
    cell = key.optimizer, alpha, dim, num_items, batch_size
    return [LeaderboardTrial(*cell, seed, track, steps, *candidate, shown=shown) for seed in seeds]


def first_trials(grid: LeaderboardGrid) -> list[LeaderboardTrial]:
    """The first trials at every key; those that are shown where nothing is tuned.

    Raises:
        RefusedError: optimizers whose learning rates cannot be inferred, and why.
    """
    trials: list[LeaderboardTrial] = []
    refused: dict[str, str] = {}
    for label in grid.labels:
        try:
            trials += _first_trials(grid, label)
        except StepError as error:
            refused[label] = str(error)
    if refused:
        raise RefusedError(refused)
    return trials


def _first_trials(grid: LeaderboardGrid, label: str) -> list[LeaderboardTrial]:
    schedule, lr = schedule_of(grid, label), grid.lr_of(label)
    momentum = None if schedule == "fixed" else free_momentum(grid, label)
    units: dict[tuple[float, int], float] = {}
    trials: list[LeaderboardTrial] = []
    for problem in grid.problems_of(label):
        memory = problem.alpha, problem.dim
        space = space_of(schedule, problem.steps, lr, has_momentum=momentum is not None)
        if "learning rate" in space.coordinates and memory not in units:
            units[memory] = unit_of(grid, label, *memory)
        candidates = first_candidates(space, units.get(memory, 1.0), momentum, grid.candidates)
        key = LeaderboardKey(label, problem)
        for candidate in candidates:
            if len(candidates) == 1:
                trials += trials_of(key, candidate, grid.seeds_shown, shown=True)
            else:
                trials += trials_of(key, candidate, grid.seeds_of_tuning[:1], shown=False)
    return trials


def schedule_of(grid: LeaderboardGrid, label: str) -> Schedule:
    """The schedule of an optimizer's candidates.

    `fixed` with the settings of its package, or if it ignores learning rates; `own` if it sets its
    learning rate itself; `constant` with a learning rate in its name; else `geometric`.
    """
    if label.endswith(DEFAULTS):
        return "fixed"
    build = builder(grid.choices[label])
    own = lr_behavior(build, grid.device, getattr(torch, grid.dtype)).schedule
    if grid.lr_of(label) is None:
        return own or "geometric"
    return "fixed" if own else "constant"


def free_momentum(grid: LeaderboardGrid, label: str) -> float | None:
    """The momentum of an optimizer as its package sets it; None without one, or one in its name.

    Raises:
        StepError: the optimizer cannot be made.
    """
    if any(name in grid.settings_of(label) for name in NAMES):
        return None
    objective = tiny_objective(grid.device, getattr(torch, grid.dtype))
    trainer = Trainer(objective, builder(grid.choices[label]))
    with attribute_errors("its momentum cannot be read"):
        return momentum_of(trainer.optimizer)


def unit_of(grid: LeaderboardGrid, label: str, alpha: float, dim: int) -> float:
    """The learning rate whose first step has the norm of a weight that stores all that `d` can.

    As `training.tuning.unit_lr`, on a memory of at most `UNIT_ITEMS` facts; an optimizer that
    steps uphill has one, too.

    Raises:
        StepError: there is none.
        MachineError: the machine failed meanwhile.
    """
    num_items = max(dim + 1, min(grid.items_of(dim), UNIT_ITEMS))
    memory = memory_of(grid, Cell(label, alpha, dim, num_items, None, 0))
    build = builder_of_run(builder(grid.choices[label]), schedule_of(grid, label), 1.0)
    with seeded(grid.device, 0, dim):
        weight = first_moved_weight(memory, build)
    norm = 0.0 if weight is None else float(weight.norm())
    if not 0 < norm < math.inf:
        raise StepError(
            f"optimizer {label!r} takes no finite step at a learning rate of 1, so learning rates "
            "cannot be inferred; expected one in its name, as :lr=0.01"
        )
    return weight_norm(dim, num_items) / norm


def next_trials(grid: LeaderboardGrid, runs: Runs) -> list[LeaderboardTrial]:
    """The next trials at one key: of the search, of the finalists, or those that are shown."""
    key, tuning = key_of(next(iter(runs))), {t: r for t, r in runs.items() if not t.shown}
    if not tuning:
        return []
    first, *other_seeds = grid.seeds_of_tuning
    ranked = _ranked({trial: run for trial, run in tuning.items() if trial.seed == first})
    following = next_candidates(ranked[0], ranked, key.problem.steps, grid.candidates)
    if following:
        return [
            trial
            for candidate in following
            for trial in trials_of(key, candidate, [first], shown=False)
        ]
    finalists = [
        trial
        for candidate in ranked[:FINALISTS]
        for trial in trials_of(key, candidate, other_seeds, shown=False)
    ]
    if any(trial not in tuning for trial in finalists):
        return finalists
    return trials_of(key, select(runs).candidate, grid.seeds_shown, shown=True)


def select(runs: Runs) -> LeaderboardSelection:
    """The candidate at one key with most items recovered, mean over the seeds of the tuning.

    Of those that ran on all seeds of the tuning; ties are broken by the lower loss. Where nothing
    is tuned, the one that is shown.
    """
    tuning = {trial: run for trial, run in runs.items() if not trial.shown}
    if not tuning:
        return LeaderboardSelection(next(iter(runs)).candidate, [], 1)
    seeds: dict[LeaderboardCandidate, int] = {}
    for trial in tuning:
        seeds[trial.candidate] = seeds.get(trial.candidate, 0) + 1
    most = max(seeds.values())
    finalists = {t: run for t, run in tuning.items() if seeds[t.candidate] == most}
    best = _ranked(finalists)[0]
    steps = next(iter(runs)).steps
    return LeaderboardSelection(best, edges_of(best, seeds, steps), len(seeds))


def _ranked(runs: Mapping[LeaderboardTrial, LeaderboardRun]) -> list[LeaderboardCandidate]:
    """Candidates by items recovered, mean over seeds, then by the lower loss, the best first."""
    results: dict[LeaderboardCandidate, list[tuple[float, float]]] = {}
    for trial, run in runs.items():
        loss = math.inf if run.loss is None else run.loss
        results.setdefault(trial.candidate, []).append((run.recovered, -loss))

    def order(candidate: LeaderboardCandidate) -> tuple[float, float]:
        items, loss = np.mean(results[candidate], axis=0)
        return float(items), float(loss)

    return sorted(results, key=order, reverse=True)
