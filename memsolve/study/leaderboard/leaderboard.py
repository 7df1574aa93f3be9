"""The leaderboard: optimizers ranked by the items they recover, tuned with one budget."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from memsolve import theory
from memsolve.engine import Fit, Summary, TableCell
from memsolve.engine.results.estimate import ErrorBar, Estimate, mean, power_law_exponent
from memsolve.engine.results.tidy import Measured, measured
from memsolve.faults import StepError
from memsolve.problem import AssociativeMemory
from memsolve.report.formatting import format_count
from memsolve.study.formatting import format_estimate
from memsolve.study.leaderboard.cost import cost
from memsolve.study.leaderboard.grid import LeaderboardGrid, LeaderboardTrial
from memsolve.study.leaderboard.point import (
    LeaderboardPoint,
    LeaderboardRun,
    Runs,
    evaluation_trials,
    leaderboard_point,
    select_at,
)
from memsolve.study.leaderboard.ranking import gaps, rank, ranking
from memsolve.study.leaderboard.records import recorded
from memsolve.study.training.early_ends import format_early_ends
from memsolve.study.training.grid import Candidate, TuningKey, by_tuning_key
from memsolve.study.training.selection import Selection, select
from memsolve.study.training.trajectory import trajectory
from memsolve.study.training.tuned_study import TrainingStudy
from memsolve.study.training.tuning import TUNING_SEEDS
from memsolve.training import Builder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LeaderboardStudy(
    TrainingStudy[LeaderboardGrid, LeaderboardTrial, LeaderboardRun, LeaderboardPoint]
):
    """Items recovered after 1, 10 and all steps, saturating batch size, time and state."""

    name = "leaderboard"
    question = "Which optimizer recovers the most items after 1, 10 and 50 steps?"
    quantity = "items recovered after 1 / 10 / all steps"
    definition = (
        "Items, of all N, whose own logit is the largest after 1, 10 and all steps on the "
        "population gradient from W = 0. Every optimizer has the default settings of its package, "
        "unless its name states others, and the same tuning budget. On seed 0, which is not "
        "reported, a constant and an inverse schedule get five learning rates each by the rule of "
        "dynamics, and up to four more while the best one after all steps is at an end, unless "
        "the user sets learning rates or schedules. Learning rates that grow, which SGD needs, "
        "are not tried by default. For each number of steps the candidate that had recovered the "
        "most by then is run again on other seeds, and these runs are reported. A run that ends "
        "early, because it diverges or a step fails, counts 0 from then on. The ranking is by the "
        "share of the best: the items that an optimizer recovers, divided by the most that any of "
        "those compared recovers, mean over alphas, d and numbers of steps; its interval is over "
        "seeds. The gap is the difference between that share and the next better one, on the same "
        "seeds; it is within noise if its interval contains 0. The saturating batch size B_80%, "
        "measured at the smallest d, is the smallest with which 10 steps recover 80% of the items "
        "of 10 steps on the population, tuned in the same way. Time is that of a step with its "
        "gradient, relative to a step of SGD measured in alternation; state is the size of the "
        "optimizer's state, per number in the weight. The leaderboard ranks how well optimizers "
        "store facts in one linear layer, by steps. It does not rank them by time at another "
        "size, on deep networks, or with other settings: momentum, decay and the like are not "
        "tuned, and batches only enter the saturating batch size."
    )
    legend = (
        "share: of the best, mean over alphas, d and numbers of steps; time: of a step, relative "
        "to SGD's; state: numbers in the optimizer's state per weight; B_80%: the smallest batch "
        "size that recovers 80% of the population's items in 10 steps (?: not identified, the "
        "report says why)"
    )
    record = recorded("leaderboard")
    grid = LeaderboardGrid()
    cell = LeaderboardTrial
    result = LeaderboardRun
    point = LeaderboardPoint

    def batch_sizes(self, grid: LeaderboardGrid, alpha: float, dim: int) -> list[int | None]:
        """The population; at the smallest `d` also the batch sizes of the grid."""
        sizes = grid.batch_sizes_of(alpha, dim) if dim == min(grid.dims) else []
        return [*sizes, None]

    def trial(
        self, grid: LeaderboardGrid, key: TuningKey, seed: int, candidate: Candidate
    ) -> LeaderboardTrial:
        """A trial of the tuning."""
        name, alpha, dim, batch_size = key
        steps = grid.steps if batch_size is None else grid.batch_steps
        cell = name, alpha, dim, grid.items_of(dim), batch_size, seed
        return LeaderboardTrial(*cell, *candidate, steps=steps)

    def tuning_seeds(self, grid: LeaderboardGrid) -> range:
        """Seeds that are not reported."""
        return TUNING_SEEDS

    def next_cells(self, grid: LeaderboardGrid, results: Runs) -> list[LeaderboardTrial]:
        """The next trials of the tuning; once it has ended, the trials that are reported."""
        tuning = {trial: run for trial, run in results.items() if trial.is_for_tuning}
        if trials := super().next_cells(grid, tuning):
            return trials
        reported = {
            trial
            for key, runs in by_tuning_key(tuning).items()
            for steps in (grid.horizons if key.batch_size is None else [grid.batch_steps])
            for trial in evaluation_trials(grid, key, select_at(runs, steps).candidate, steps)
        }
        return sorted(reported - set(results), key=lambda trial: (trial.memory, str(trial)))

    def run(
        self,
        grid: LeaderboardGrid,
        memory: AssociativeMemory,
        build: Builder,
        cell: LeaderboardTrial,
    ) -> LeaderboardRun:
        """The run, with its costs if it is reported and takes all steps."""
        start = time.perf_counter()
        result = trajectory(replace(grid, steps=cell.steps), memory, build, cell)
        run = LeaderboardRun(**vars(result), total_seconds=time.perf_counter() - start)
        if self.is_timed(grid, cell):
            with suppress(StepError):  # as the run itself may have ended
                return replace(run, **cost(memory, build, cell.lr)._asdict())
        return run

    def is_timed(self, grid: LeaderboardGrid, cell: LeaderboardTrial) -> bool:
        """Whether it is reported, on the population, and takes all steps."""
        is_reported = not cell.is_for_tuning and cell.batch_size is None
        return is_reported and cell.steps == grid.steps

    def without_times(self, result: LeaderboardRun) -> LeaderboardRun:
        """Only the runs whose costs are reported are timed."""
        return replace(result, seconds=math.nan, total_seconds=math.nan)

    def cost(self, grid: LeaderboardGrid, cell: LeaderboardTrial) -> float:
        """That of the logits of all items, after each step."""
        return float(cell.num_items) ** 2 * cell.dim * cell.steps

    def select(self, grid: LeaderboardGrid, runs: Runs) -> Selection:
        """The candidate with the most items recovered after all steps."""
        return select(runs, grid.steps)

    def fits(self, grid: LeaderboardGrid, results: Runs) -> list[Fit[LeaderboardPoint]]:
        """One fit for each optimizer and alpha, the best first; the exponent after all steps."""
        by_key: Mapping[TuningKey, Runs] = by_tuning_key(results)

        def fit(name: str, alpha: float) -> Fit[LeaderboardPoint]:
            keys = [TuningKey(name, alpha, dim, None) for dim in grid.dims]
            points = [leaderboard_point(grid, key, by_key) for key in keys]
            counts = [np.array(point.recovered[-1], dtype=float) for point in points]
            slope = power_law_exponent(
                grid.dims, counts, [lambda draws: draws.mean(1)] * len(counts)
            )
            law = theory.limit_law(isotropic=grid.is_isotropic)
            return Fit(name, alpha, f"recovered after {grid.steps} steps", slope, law, points)

        return self.ranked([fit(name, alpha) for alpha in grid.alphas for name in grid.labels])

    def ranked(self, fits: Sequence[Fit[LeaderboardPoint]]) -> list[Fit[LeaderboardPoint]]:
        """By alpha, then by the share of the best over all alphas."""
        order = list(ranking(fits))
        return sorted(fits, key=lambda fit: (fit.alpha, order.index(fit.optimizer)))

    def rows(self, fits: Sequence[Fit[LeaderboardPoint]]) -> list[dict[str, TableCell]]:
        """Rank, share of the best, gap, exponent, saturating batch size, and costs."""
        overall, gap = ranking(fits), gaps(fits)
        gap_keys = _differences(overall)
        shares = {
            alpha: ranking([fit for fit in fits if fit.alpha == alpha])
            for alpha in {fit.alpha for fit in fits}
        }

        def row(fit: Fit[LeaderboardPoint]) -> dict[str, TableCell]:
            name, first, last = fit.optimizer, fit.points[0], fit.points[-1]
            share, batch_size = overall[name], first.saturating_batch_size
            time = float(np.median(last.time)) if last.time else None
            return {
                "rank": TableCell(rank(overall, name), share.value and -share.value),
                "share [95%]": TableCell.of_estimate(share),
                "gap to the next better [95%]": TableCell(gap[name], gap_keys.get(name)),
                "at this alpha": TableCell.of_estimate(shares[fit.alpha][name]),
                "exponent in d [95%]": TableCell.of_estimate(fit.estimate),
                f"B_80% at d = {first.dim}": TableCell(
                    _format_or_mark(batch_size), batch_size.value
                ),
                "time": TableCell("-" if time is None else f"{time:.1f}", time),
                "state": TableCell(f"{last.state:.1f}", last.state),
            }

        return [row(fit) for fit in fits]

    def value(self, point: LeaderboardPoint) -> str:
        """Items recovered after 1, 10 and all steps."""
        return ", ".join([" / ".join(map(format_count, point.mean)), *point.early_ends])

    def score(self, point: LeaderboardPoint) -> float:
        """The most items recovered after any number of steps."""
        return max(point.mean)

    def detail(self, point: LeaderboardPoint) -> str:
        """Items recovered, with intervals; the selected candidates; and the costs of a step."""
        ratios = point.ratios or [1.0] * len(point.lrs)
        candidates = map(Candidate, point.schedules, point.lrs, ratios)
        parts = [
            f"after {steps} {format_estimate(mean(seeds))} ({candidate}"
            f"{', at the edge' if at_edge else ''})"
            for steps, seeds, candidate, at_edge in zip(
                point.horizons, point.recovered, candidates, point.at_edge, strict=True
            )
        ]
        if point.early_ends:
            parts.append(format_early_ends(point.early_ends, len(point.recovered[-1])))
        parts.append(f"of {point.limit:.0f}, d^2 / (2 ln N)")
        if point.time:
            lowest, highest = min(point.time), max(point.time)
            parts.append(f"{lowest:.2f} to {highest:.2f} times the time of a step of SGD")
        parts.append(f"state of {point.state:.2f} numbers per weight")
        parts.append(f"B_80% {format_estimate(point.saturating_batch_size)}")
        return "; ".join(parts)

    def tidy(self, result: LeaderboardRun) -> Iterable[Measured]:
        """Counts after each step, and the costs of a step."""
        names = ("recovered", "seconds", "time", "state")
        yield from measured([(name, getattr(result, name)) for name in names], step=0)

    def figures(self, summary: Summary[LeaderboardPoint]) -> dict[str, "Figure"]:
        """The ranking, items against steps, the performance profile, and items against `d`."""
        from memsolve.report.power_law import power_law_figure
        from memsolve.study.leaderboard import figures

        return {
            "leaderboard": figures.shares(summary),
            "leaderboard-steps": figures.against_steps(summary),
            "leaderboard-profile": figures.profile(summary),
            "leaderboard-against-d": power_law_figure(
                summary, "items recovered", after_all_steps, "mean and range over seeds"
            ),
        }


def _differences(shares: Mapping[str, Estimate]) -> dict[str, float]:
    """The difference between each share and the next better one, by name."""
    return {
        name: better.value - share.value
        for (_, better), (name, share) in pairwise(shares.items())
        if better.value is not None and share.value is not None
    }


def _format_or_mark(estimate: Estimate) -> str:
    return "?" if estimate.value is None else format_estimate(estimate)


def after_all_steps(point: LeaderboardPoint) -> ErrorBar:
    """Items recovered after all steps, mean and range."""
    seeds = point.recovered[-1]
    return float(np.mean(seeds)), float(min(seeds)), float(max(seeds))


leaderboard = LeaderboardStudy()
