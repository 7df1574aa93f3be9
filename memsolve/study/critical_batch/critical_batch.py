"""The critical batch size of training: steps to a target against the batch size."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from memsolve.engine import Fit, Summary, TableCell
from memsolve.engine.results.estimate import Estimate, power_law_exponent
from memsolve.engine.results.tidy import Measured, measured
from memsolve.problem import AssociativeMemory
from memsolve.study.critical_batch.batch_scaling import BatchScaling
from memsolve.study.critical_batch.grid import RaceGrid
from memsolve.study.critical_batch.point import BatchScalingPoint, batch_scaling_point
from memsolve.study.critical_batch.race import RaceResult, race
from memsolve.study.critical_batch.selection import RacesByTrial, select_by_steps, steps_table
from memsolve.study.formatting import format_estimate, format_value
from memsolve.study.training.grid import Trial, TuningKey, by_tuning_key
from memsolve.study.training.selection import Selection
from memsolve.study.training.tuned_study import TrainingStudy
from memsolve.training import Builder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CriticalBatchStudy(TrainingStudy[RaceGrid, Trial, RaceResult, BatchScalingPoint]):
    """Steps to a target at every batch size, and where more examples cease to save steps."""

    name = "critical-batch"
    question = "Up to which batch size do larger batches save training steps?"
    quantity = "critical batch size of training"
    definition = (
        "S(B) is the number of steps after which a number of items is recovered, or the loss of "
        "the population falls below a value; by default half of d^2 / (2 ln N) items. At each "
        "batch size B the learning rate is the one with the fewest steps, mean over seeds, tuned "
        "as in dynamics; a run that does not reach the target counts more than all that do. The "
        "study gives two critical batch sizes. B_crit is that of S(B) = S_min (1 + B_crit / B), "
        "fitted in logarithms, with the population as an infinite batch (McCandlish et al. 2018). "
        "B_20% is where S(B) is 20% above linear scaling (Zhang et al. 2024) from the batch size "
        "that needs the fewest examples. A batch size at which some seed does not reach the target "
        "is not dropped: it bounds S from below. An estimate is identified if it lies between "
        "batch sizes that reached the target, with all seeds and without any one of them. Its "
        "interval is Student's, by the jackknife over seeds, with the learning rate selected anew "
        "without each seed. The interval of B_20% covers less than 95%, down to 84% in "
        "simulations, where several batch sizes need about the fewest examples. The noise scale "
        "tr(Sigma) / |G|^2 of the gradient, which predicts B_crit in theory, is computed exactly, "
        "and also estimated from batches of two sizes. The noise scale in the nuclear norm, the "
        "dual of the spectral norm in which Muon takes its steps, is bounded by exact second "
        "moments; memsolve noise-scale compares both with the laws."
    )
    legend = "?: not identified; the report says why"
    grid = RaceGrid(("sgd", "muon"), dims=(16, 32), seeds=3, steps=100)
    cell = Trial
    result = RaceResult
    point = BatchScalingPoint

    def run(
        self, grid: RaceGrid, memory: AssociativeMemory, build: Builder, cell: Trial
    ) -> RaceResult:
        """The race to the target."""
        return race(grid, memory, build, cell)

    def select(self, grid: RaceGrid, runs: RacesByTrial) -> Selection:
        """The candidate with the fewest steps to the target."""
        return select_by_steps(runs, grid.steps)

    def batch_sizes(self, grid: RaceGrid, alpha: float, dim: int) -> list[int | None]:
        """The batch sizes of the grid, then the population."""
        return [*grid.batch_sizes_of(alpha, dim), None]

    def fits(self, grid: RaceGrid, results: RacesByTrial) -> list[Fit[BatchScalingPoint]]:
        """One fit for each optimizer and alpha, with both critical batch sizes at each `d`."""
        by_key = by_tuning_key(results)

        def fit(name: str, alpha: float) -> Fit[BatchScalingPoint]:
            points, samples, statistics = [], [], []
            for dim in grid.dims:
                sizes = self.batch_sizes(grid, alpha, dim)
                races = [by_key[TuningKey(name, alpha, dim, size)] for size in sizes]
                scaling = BatchScaling([size or math.inf for size in sizes], grid.steps)
                points.append(batch_scaling_point(grid, alpha, dim, scaling, races))
                samples.append(steps_table(races))
                statistics.append(scaling.critical)
            slope = power_law_exponent(grid.dims, samples, statistics)
            if missing := [str(point.dim) for point in points if point.critical.value is None]:
                slope = Estimate(None, note=f"not identified at d = {', '.join(missing)}")
            return Fit(name, alpha, "B_crit", slope, None, points)

        return [fit(name, alpha) for alpha in grid.alphas for name in grid.labels]

    def columns(self, fit: Fit[BatchScalingPoint]) -> dict[str, TableCell]:
        """The exponent of `B_crit`."""
        return {"exponent of B_crit in d [95%]": TableCell.of_estimate(fit.estimate)}

    def value(self, point: BatchScalingPoint) -> str:
        """Both critical batch sizes."""
        if not any(point.reached):
            return "target not reached"
        both = (("B_crit", point.critical), ("B_20%", point.overhead))
        return " / ".join(f"{name} {format_value(estimate.value)}" for name, estimate in both)

    def score(self, point: BatchScalingPoint) -> float | None:
        """The fitted critical batch size."""
        return point.critical.value

    def detail(self, point: BatchScalingPoint) -> str:
        """Both with their intervals, how well the curve fits, and the noise scales."""
        parts = [
            f"B_crit {format_estimate(point.critical)}",
            f"B_20% {format_estimate(point.overhead)}",
            f"noise scale {format_estimate(point.noise_at_zero)} at W = 0 and "
            f"{format_estimate(point.noise_at_target)} at the target, "
            f"{format_estimate(point.noise_of_batches)} estimated from two batch sizes",
            f"in the nuclear norm {format_estimate(point.nuclear_at_zero)} at W = 0 and "
            f"{format_estimate(point.nuclear_at_target)} at the target",
        ]
        if point.misfit is not None and point.floor is not None:
            parts.append(f"S_min {point.floor:.1f}, fits within a factor {point.misfit:.2f}")
        if not all(point.reached):
            missed = point.format_batch_sizes([not reached for reached in point.reached])
            parts.append(f"target not reached in {point.horizon} steps at {missed}")
        if any(point.at_edge):
            sizes = point.format_batch_sizes(point.at_edge)
            parts.append(f"learning rate at the edge of those tried at {sizes}")
        return f"target {point.target:g}: {'; '.join(parts)}"

    def tidy(self, result: RaceResult) -> Iterable[Measured]:
        """Steps to the target, `inf` if it was not reached; counts, loss and noise scales."""
        yield Measured(0, "steps to target", math.inf if result.steps is None else result.steps)
        others = [(name, value) for name, value in vars(result).items() if name != "steps"]
        yield from measured(others, 0)

    def figures(self, summary: Summary[BatchScalingPoint]) -> dict[str, "Figure"]:
        """Steps to the target against the batch size, and `B_crit` against `d`."""
        from memsolve.report.power_law import power_law_figure
        from memsolve.study.critical_batch.figures import steps_against_batch_size

        return {
            "critical-batch": steps_against_batch_size(summary),
            "critical-batch-against-d": power_law_figure(
                summary,
                "B_crit",
                lambda point: point.critical.bar,
                "estimate and 95% interval over seeds",
            ),
        }


critical_batch = CriticalBatchStudy()
