"""The critical batch size of training: steps to a target against the batch size, twice defined."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import Estimate, power_law_exponent
from memsolve.engine.results.tidy import Measured, measured
from memsolve.problem import AssociativeMemory
from memsolve.report.drawing import (
    Bar,
    dims,
    key,
    key_of_dims,
    panel_size,
    panels,
    shades,
    titles_by_optimizer,
)
from memsolve.report.powers import against_dim
from memsolve.report.words import count
from memsolve.study.critical_batch import point as scaled
from memsolve.study.critical_batch.batch_scaling import OVERHEAD, BatchScaling
from memsolve.study.critical_batch.point import BatchScalingPoint, RacesByTrial
from memsolve.study.critical_batch.race import Race, RaceGrid, race
from memsolve.study.training.grid import Trial, TuningKey, by_tuning_key
from memsolve.study.training.tuned_study import TrainingStudy
from memsolve.study.training.tuning import Selection
from memsolve.training import Builder


class CriticalBatch(TrainingStudy[RaceGrid, Trial, Race, BatchScalingPoint]):
    """Steps to a target at every batch size, and where more examples cease to save steps."""

    name = "critical-batch"
    question = "Steps to a target against batch size, and where larger batches cease to pay."
    quantity = "critical batch size of training"
    definition = (
        "Steps S(B) until so many items are recovered, or the population's loss is so low: half "
        "of d^2 / (2 ln N) items unless another target is given. At each batch size B the step "
        "size is the one with the fewest steps, mean over seeds, tuned as in dynamics; a run that "
        "does not get there counts more than all that do. Two definitions of the critical batch "
        "size are shown. B_crit is that of S(B) = S_min (1 + B_crit / B), fitted in logarithms, "
        "with the population as B without end (McCandlish et al. 2018). B_20% is where S(B) is "
        "20% above linear scaling (Zhang et al. 2024) from the batch size that needs the fewest "
        "examples. A batch size at which a seed has not reached the target bounds S from below, "
        "and is not dropped. An estimate is identified if it lies between batches that got there, "
        "with all seeds and without any one of them. Its interval is Student's by the jackknife "
        "over seeds, the step size chosen anew without each. That of B_20% covers less than it "
        "says, down to 84% in simulations, where several batches need about the fewest examples. "
        "The noise scale tr(Sigma) / |G|^2 of the gradient, which is to predict "
        "B_crit, is exact, and beside it estimated from batches of two sizes."
    )
    legend = "?: not identified; the report says why"
    grid = RaceGrid(("sgd", "muon"), dims=(16, 32), seeds=3, steps=100)
    cell = Trial
    result = Race
    point = BatchScalingPoint

    def run(self, grid: RaceGrid, memory: AssociativeMemory, build: Builder, cell: Trial) -> Race:
        """The run until the target."""
        return race(grid, memory, build, cell)

    def select(self, runs: RacesByTrial) -> Selection:
        """The fewest steps to the target."""
        return scaled.choose(runs)

    def batch_sizes(self, grid: RaceGrid, alpha: float, dim: int) -> list[int | None]:
        """Those of the grid, and the population last."""
        return [*grid.batch_sizes_of(alpha, dim), None]

    def fits(self, grid: RaceGrid, results: RacesByTrial) -> list[Fit[BatchScalingPoint]]:
        """One fit an optimizer and alpha, with both definitions at each `d`."""
        places = by_tuning_key(results)

        def fit(name: str, alpha: float) -> Fit[BatchScalingPoint]:
            points, samples, statistics = [], [], []
            for dim in grid.dims:
                sizes = self.batch_sizes(grid, alpha, dim)
                races = [places[TuningKey(name, alpha, dim, size)] for size in sizes]
                scaling = BatchScaling([size or math.inf for size in sizes], grid.steps)
                points.append(scaled.scaled(grid, alpha, dim, scaling, races))
                samples.append(scaled.table(races))
                statistics.append(scaling.critical)
            slope = power_law_exponent(grid.dims, samples, statistics)
            if open_at := [str(point.dim) for point in points if point.critical.value is None]:
                slope = Estimate(None, note=f"not identified at d = {', '.join(open_at)}")
            return Fit(name, alpha, "B_crit", slope, None, points)

        return [fit(name, alpha) for alpha in grid.alphas for name in grid.labels]

    def columns(self, fit: Fit[BatchScalingPoint]) -> dict[str, str]:
        """The exponent of `B_crit`."""
        return {"exponent of B_crit in d [95%]": fit.estimate.format()}

    def value(self, point: BatchScalingPoint) -> str:
        """Both critical batch sizes."""
        if not any(point.reached):
            return "target not reached"
        both = (("B_crit", point.critical), ("B_20%", point.overhead))
        return " / ".join(f"{name} {_short(estimate)}" for name, estimate in both)

    def score(self, point: BatchScalingPoint) -> float | None:
        """The fitted critical batch size."""
        return point.critical.value

    def detail(self, point: BatchScalingPoint) -> str:
        """Both with their intervals, how well the curve fits, and the noise scales."""
        said = [
            f"B_crit {_long(point.critical)}",
            f"B_20% {_long(point.overhead)}",
            f"noise scale {_long(point.noise_at_zero)} at W = 0 and {_long(point.noise_at_target)} "
            f"at the target, {_long(point.noise_of_batches)} of two batches",
        ]
        if point.misfit is not None and point.floor is not None:
            said.append(f"S_min {point.floor:.1f}, fits within a factor {point.misfit:.2f}")
        if not all(point.reached):
            missed = point.batches([not got for got in point.reached])
            said.append(f"target not reached in {point.horizon} steps at {missed}")
        if any(point.edge):
            said.append(f"step size at the grid's edge at {point.batches(point.edge)}")
        return f"target {point.target:g}: {'; '.join(said)}"

    def tidy(self, result: Race) -> Iterable[Measured]:
        """Steps to the target, `inf` where it was not reached, the way there, and the noise."""
        yield Measured(0, "steps to target", math.inf if result.steps is None else result.steps)
        yield from measured([(name, of) for name, of in vars(result).items() if name != "steps"], 0)

    def figures(self, summary: Summary[BatchScalingPoint]) -> dict[str, Figure]:
        """Steps to the target against the batch size, and `B_crit` against `d`."""
        return {
            "critical-batch": _against_batch(summary),
            "critical-batch-against-d": against_dim(
                summary,
                "B_crit",
                lambda point: point.critical.bar,
                "estimate and 95% interval over seeds",
            ),
        }


def _short(estimate: Estimate) -> str:
    return "?" if estimate.value is None else count(estimate.value)


def _long(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.note if estimate.value is None else count(estimate.value)
    return f"{count(estimate.value)} [{count(estimate.low)}, {count(estimate.high)}]"


def _against_batch(summary: Summary[BatchScalingPoint]) -> Figure:
    """A panel an alpha and optimizer."""
    titles = titles_by_optimizer(summary, _both)
    labels = "batch size B (to the right: population)", "steps to the target"
    figure, found = panels(titles, size=panel_size(len(titles)), axes=labels, share=(True, True))
    shade = shades(dims(summary))
    for fit in summary.fits:
        axes = found[fit.alpha, fit.optimizer]
        for point in fit.points:
            _falling(axes, point, shade[point.dim])
        axes.set(xscale="log", yscale="log")
        axes.minorticks_off()
    hollow = {"ls": "", "mfc": "white", "mew": 1.5}
    meanings = key_of_dims(shade)
    meanings["mean over seeds"] = {"marker": "o", "ls": "", "ms": 4}
    meanings["of the population"] = {"marker": ">", "ls": ""}
    meanings["not reached: at least so many"] = {"marker": "^", "ls": "", "mfc": "none"}
    meanings["S_min (1 + B_crit / B), where identified"] = {"lw": 1}
    meanings["linear scaling"] = {"ls": "--", "lw": 1}
    meanings["B_crit, 95% interval over seeds"] = {"marker": "D", **hollow}
    meanings["B_20%, 95% interval over seeds"] = {"marker": "s", **hollow}
    key(figure, meanings)
    return figure


def _both(points: list[BatchScalingPoint]) -> str:
    """Both critical batch sizes at each `d`."""
    critical = ", ".join(_short(point.critical) for point in points)
    overhead = ", ".join(_short(point.overhead) for point in points)
    return f"B_crit = {critical}; B_20% = {overhead}"


def _falling(axes: Axes, point: BatchScalingPoint, color: Any) -> None:
    """Steps; where identified, the curve with `B_crit`, and linear scaling with `B_20%`."""
    finite = np.array(point.batch_sizes[:-1], dtype=float)
    sizes = np.append(finite, 8 * finite[-1])  # where the population is shown
    mean, reached = np.array(point.mean), np.array(point.reached)
    label = f"d = {point.dim}"
    axes.plot(finite[reached[:-1]], mean[:-1][reached[:-1]], "o", ms=4, color=color, label=label)
    axes.plot(sizes[-1:][reached[-1:]], mean[-1:][reached[-1:]], ">", ms=6, color=color)
    axes.plot(sizes[~reached], mean[~reached], "^", ms=6, mfc="none", color=color)
    critical, overhead = point.critical.bar, point.overhead.bar
    if critical is not None and point.floor is not None and point.slope is not None:
        fine = np.geomspace(sizes[0], sizes[-1], 100)
        axes.plot(fine, point.floor * (1 + point.slope / fine), lw=1, color=color)
        _mark(axes, critical, 2 * point.floor, "D", color)
    if overhead is not None:
        examples = np.where(reached[:-1], finite * mean[:-1], np.inf)
        value, *_ = overhead
        linear = np.array([finite[examples.argmin()], value])
        axes.plot(linear, examples.min() / linear, "--", lw=1, color=color)
        _mark(axes, overhead, OVERHEAD * examples.min() / value, "s", color)


def _mark(axes: Axes, bar: Bar, height: float, marker: str, color: Any) -> None:
    """A critical batch size with its interval."""
    value, low, high = bar
    axes.errorbar(
        value,
        height,
        xerr=[[value - low], [high - value]],
        fmt=marker,
        ms=7,
        mfc="white",
        mew=1.5,
        capsize=3,
        color=color,
        zorder=3,
    )


critical_batch = CriticalBatch()
