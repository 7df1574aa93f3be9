"""What optimizers store over many steps, each with its best schedule and step size."""

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from memsolve import theory
from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import power_law_exponent
from memsolve.engine.results.tidy import Measured, measured
from memsolve.problem import AssociativeMemory
from memsolve.report.words import count
from memsolve.study.one_step.one_step import methods
from memsolve.study.training import dynamics_figures as figures
from memsolve.study.training.dynamics_point import DynamicsPoint, training
from memsolve.study.training.grid import TrainingGrid, Trial, TuningKey, by_tuning_key
from memsolve.study.training.trajectory import (
    QUANTILES,
    Trajectories,
    Trajectory,
    choose,
    trajectory,
)
from memsolve.study.training.tuned_study import TrainingStudy
from memsolve.study.training.tuning import Selection
from memsolve.training import Builder


class Dynamics(TrainingStudy[TrainingGrid, Trial, Trajectory, DynamicsPoint]):
    """Recovered items, loss and margins over the steps, and the exponent of the plateau."""

    name = "dynamics"
    question = "Items stored step by step, each optimizer with its best schedule and step size."
    quantity = "recovered items"
    definition = (
        "Items whose own logit is the largest after each of many steps from W = 0, of all N. Every "
        "optimizer is tuned by one rule, at each alpha, d and batch size. Each schedule is tried "
        "with five step sizes: first with three, a factor 4 apart, whose means over the steps are "
        "the same in every schedule, and in the middle the one at which a first step is as large "
        "as a weight that stores d^2 / (2 ln N) items; then, one at a time, beyond the end if that "
        "is best so far, else halfway between the best one and its better neighbour. Shown is the "
        "trial that has recovered most after the last step, mean over seeds; of equals, the one of "
        "lower loss. A run that ends early, because it diverged or a step failed, counts 0 from "
        "then on. The best schedule is tried with up to four step sizes more while its own is the "
        "smallest or largest; if it is at the edge even then, the table says so. Step sizes that "
        "are given, in a list or as lr in an optimizer's name, take their place. Tuning serves the "
        "last step: to see what can be had by an earlier one, ask for fewer steps. The exponent is "
        "that of the number recovered after the last step. The limit is 2 log d up to logarithms; "
        "beside it stands d^2 / (2 ln N), about what any weight can store."
    )
    legend = "diverged, failed: counts 0 from then on; the report says when"
    grid = TrainingGrid(dims=(32, 64), seeds=1)
    cell = Trial
    result = Trajectory
    point = DynamicsPoint

    def run(
        self, grid: TrainingGrid, memory: AssociativeMemory, build: Builder, cell: Trial
    ) -> Trajectory:
        """The whole run."""
        return trajectory(grid, memory, build, cell)

    def select(self, runs: Trajectories) -> Selection:
        """What has recovered most in the end."""
        return choose(runs)

    def fits(self, grid: TrainingGrid, results: Trajectories) -> list[Fit[DynamicsPoint]]:
        """One fit an optimizer, alpha and batch size."""
        method = methods(grid, grid.steps)
        places = by_tuning_key(results)

        def fit(name: str, alpha: float, batch_size: int | None) -> Fit[DynamicsPoint]:
            points = [
                training(grid, method[name], place, places[place])
                for place in (TuningKey(name, alpha, dim, batch_size) for dim in grid.dims)
            ]
            counts = [np.array(point.plateau, dtype=float) for point in points]
            slope = power_law_exponent(
                grid.dims, counts, [lambda draws: draws.mean(1)] * len(counts)
            )
            law = theory.Law(2.0, "published limit")
            return Fit(name, alpha, "plateau", slope, law, points, batch_size)

        return [
            fit(name, alpha, batch_size)
            for alpha in grid.alphas
            for batch_size in self.batch_sizes(grid, alpha, grid.dims[0])
            for name in grid.labels
        ]

    def columns(self, fit: Fit[DynamicsPoint]) -> dict[str, str]:
        """The batch, the exponent of the plateau and its limit."""
        batch = "population" if fit.batch_size is None else str(fit.batch_size)
        return {"batch": batch, "exponent in d [95%]": fit.estimate.format(), "limit": str(fit.law)}

    def value(self, point: DynamicsPoint) -> str:
        """Items recovered in the end, beside about what any weight can store."""
        edge = ", edge" if point.edge else ""
        early = f", {point.note.split()[0]}" if point.note else ""
        return f"{count(float(np.mean(point.plateau)))} of {point.limit:.0f}{edge}{early}"

    def score(self, point: DynamicsPoint) -> float:
        """Items recovered in the end."""
        return float(np.mean(point.plateau))

    def detail(self, point: DynamicsPoint) -> str:
        """Items recovered in the end, beside the limit, and how."""
        plateau = float(np.mean(point.plateau))
        share, edge = plateau / point.limit, ", at the grid's edge" if point.edge else ""
        early = f"{point.note}; " if point.note else ""
        return (
            f"{count(plateau)} after {len(point.recovered)} steps, {share:.2f} of "
            f"d^2 / (2 ln N); {early}{point.schedule}, step size {point.lr:g}{edge}; "
            f"{1e3 * point.seconds:.0f} ms a step"
        )

    def tidy(self, result: Trajectory) -> Iterable[Measured]:
        """Counts after each step, loss before it on its batch, quantiles of margins at marks."""
        named = ("recovered", "top_rank", "seconds")
        yield from measured([(name, getattr(result, name)) for name in named], step=0)
        for step, loss in enumerate(result.loss):
            yield Measured(step, "batch loss", loss)
        for step, quantiles in zip(result.marks, result.margins, strict=True):
            for level, value in zip(QUANTILES, quantiles, strict=True):
                yield Measured(step, f"margin at {level:.0%}", value)

    def figures(self, summary: Summary[DynamicsPoint]) -> dict[str, Figure]:
        """Recovered items and loss against steps, margins, and the tuning curves."""
        return {
            "dynamics": figures.recovered(summary),
            "dynamics-loss": figures.loss(summary),
            "dynamics-margins": figures.margins(summary),
            "dynamics-tuning": figures.tuning(summary),
        }


dynamics = Dynamics()
