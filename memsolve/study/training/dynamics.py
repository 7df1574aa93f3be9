"""Training dynamics: items recovered over many steps, by tuned optimizers."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from memsolve import theory
from memsolve.engine import Fit, Summary, TableCell
from memsolve.engine.results.estimate import mean, power_law_exponent
from memsolve.engine.results.tidy import Measured, measured
from memsolve.problem import AssociativeMemory
from memsolve.report.formatting import format_count
from memsolve.study.training.early_ends import format_early_ends
from memsolve.study.training.grid import TrainingGrid, Trial, TuningKey, by_tuning_key
from memsolve.study.training.point import DynamicsPoint, dynamics_point, last_counts
from memsolve.study.training.selection import Selection, select
from memsolve.study.training.trajectory import (
    QUANTILES,
    Trajectories,
    Trajectory,
    trajectory,
)
from memsolve.study.training.tuned_study import TrainingStudy
from memsolve.training import Builder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DynamicsStudy(TrainingStudy[TrainingGrid, Trial, Trajectory, DynamicsPoint]):
    """Recovered items, loss and margins over the steps, and the exponent of the plateau."""

    name = "dynamics"
    question = "How many items does each tuned optimizer recover, step by step?"
    quantity = "recovered items"
    definition = (
        "Items, of all N, whose own logit is the largest after each of many steps from W = 0. "
        "Every optimizer is tuned by the same rule, separately at each alpha, d and batch size. "
        "The learning rate of step t is lr r^(t - 1) (schedule geometric): it grows with r above "
        "1, and falls with r below 1. Every optimizer gets 24 pairs of lr and r. The first twelve "
        "are points of a Sobol sequence: the mean learning rate from a quarter of a unit to 64 "
        "units, and the last one from a 64th to 1024 times the first. The unit is the learning "
        "rate whose step from zero is as large as a weight that stores d^2 / (2 ln N) items. "
        "Three rounds of four follow, each around the best pair so far in a box half as wide as "
        "before. If the best pair has the smallest or largest mean learning rate or ratio of all, "
        "the table says so. Every other schedule gets five learning rates. The first three are a "
        "factor 4 apart, with a mean over the steps of one unit in the middle; the others are "
        "added one at a time, beyond the end if the best one is at an end, else halfway between "
        "the best one and its better neighbour, and up to four more while the best one is at an "
        "end. Learning rates that the user sets, as a list or as lr in the optimizer's name, "
        "replace these; the geometric schedule starts from each of them with nine ratios. Shown "
        "is the candidate that has recovered the most items after the last step, mean over seeds; "
        "ties are broken by the lower loss. A run that ends early, because it diverges or a step "
        "fails, counts 0 from then on. Tuning is for the last step: for the best result after "
        "fewer steps, run the study with fewer steps. The exponent is that of the number "
        "recovered after the last step; its interval is over seeds, with the pair selected anew "
        "without each. Its limit is 2, up to logarithms. For scale the table gives d^2 / (2 ln "
        "N), about how many items any weight can store."
    )
    legend = (
        "edge: the best learning rate or ratio is the smallest or largest tried; diverged, failed: "
        "counts 0 from then on; the report says which and when"
    )
    grid = TrainingGrid(dims=(32, 64), seeds=1)
    cell = Trial
    result = Trajectory
    point = DynamicsPoint

    def run(
        self, grid: TrainingGrid, memory: AssociativeMemory, build: Builder, cell: Trial
    ) -> Trajectory:
        """The trajectory of the run."""
        return trajectory(grid, memory, build, cell)

    def select(self, grid: TrainingGrid, runs: Trajectories) -> Selection:
        """The candidate with the most items recovered after the last step."""
        return select(runs, grid.steps)

    def without_times(self, result: Trajectory) -> Trajectory:
        """The time of a step is reported only of trials that ran alone."""
        return replace(result, seconds=math.nan)

    def fits(self, grid: TrainingGrid, results: Trajectories) -> list[Fit[DynamicsPoint]]:
        """One fit for each optimizer, alpha and batch size."""
        by_key = by_tuning_key(results)

        def fit(name: str, alpha: float, batch_size: int | None) -> Fit[DynamicsPoint]:
            keys = [TuningKey(name, alpha, dim, batch_size) for dim in grid.dims]
            points = [dynamics_point(grid, key, by_key[key]) for key in keys]
            counts = [last_counts(by_key[key], grid.steps) for key in keys]
            slope = power_law_exponent(
                grid.dims, counts, [lambda draws: draws.mean(1).max(1)] * len(counts)
            )
            law = theory.limit_law(isotropic=grid.is_isotropic)
            return Fit(name, alpha, "plateau", slope, law, points, batch_size)

        return [
            fit(name, alpha, batch_size)
            for alpha in grid.alphas
            for batch_size in self.batch_sizes(grid, alpha, grid.dims[0])
            for name in grid.labels
        ]

    def columns(self, fit: Fit[DynamicsPoint]) -> dict[str, TableCell]:
        """The batch size, and the exponent of the plateau with its limit."""
        batch = "population" if fit.batch_size is None else str(fit.batch_size)
        return {
            "batch": TableCell(batch, fit.batch_size),
            "exponent in d [95%]": TableCell.of_estimate(fit.estimate),
            "limit": TableCell.of_law(fit.law),
        }

    def value(self, point: DynamicsPoint) -> str:
        """Items recovered after the last step, and about how many any weight can store."""
        remarks = [*(["edge"] if point.edges else []), *point.early_ends]
        items = f"{format_count(float(np.mean(point.plateau)))} of {point.limit:.0f}"
        return ", ".join([items, *remarks])

    def score(self, point: DynamicsPoint) -> float:
        """Items recovered after the last step."""
        return float(np.mean(point.plateau))

    def detail(self, point: DynamicsPoint) -> str:
        """Items recovered after the last step, the limit, and the selected candidate."""
        plateau = float(np.mean(point.plateau))
        edge = f", the {' and the '.join(point.edges)} tried" if point.edges else ""
        parts = [
            f"{format_count(plateau)} after {len(point.recovered)} steps, "
            f"{plateau / point.limit:.2f} of d^2 / (2 ln N)",
            format_early_ends(point.early_ends, len(point.plateau)),
            f"{point.candidate}{edge}",
            "" if point.seconds is None else f"{1e3 * point.seconds:.0f} ms a step",
        ]
        return "; ".join(part for part in parts if part)

    def tidy(self, result: Trajectory) -> Iterable[Measured]:
        """Counts after each step, the loss before it on its batch, and quantiles of margins."""
        names = ("recovered", "top_rank", "seconds")
        yield from measured([(name, getattr(result, name)) for name in names], step=0)
        for step, loss in enumerate(result.loss):
            yield Measured(step, "batch loss", loss)
        for step, quantiles in zip(result.marks, result.margins, strict=True):
            for level, value in zip(QUANTILES, quantiles, strict=True):
                yield Measured(step, f"margin at {level:.0%}", value)

    def figures(self, summary: Summary[DynamicsPoint]) -> dict[str, "Figure"]:
        """Recovered items and loss against steps, margins, and the tuning curves."""
        from memsolve.report.sweep_figure import point_bars, sweep_figures
        from memsolve.study.training import figures
        from memsolve.study.training.tuning_figures import tuning_figures

        return {
            "dynamics": figures.recovered(summary),
            "dynamics-loss": figures.loss(summary),
            "dynamics-margins": figures.margins(summary),
            **sweep_figures(
                self.name,
                "recovered items",
                point_bars(summary, lambda point: mean(point.plateau).bar),
            ),
        } | tuning_figures(summary)


dynamics = DynamicsStudy()
