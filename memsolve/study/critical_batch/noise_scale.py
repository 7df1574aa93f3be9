"""Whether a noise scale of the gradient has the power of `d` of the saturation batch size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
from memsolve_kernels.errors import RangeError

from memsolve import theory
from memsolve.engine import Cell, Fit, Grid, Point, Study, Summary, TableCell
from memsolve.engine.peak import Peak
from memsolve.engine.results.estimate import (
    POSITIVE,
    ErrorBar,
    Estimate,
    Floats,
    jackknife,
    mean,
    power_law_exponent,
)
from memsolve.faults import StepError
from memsolve.problem import AssociativeMemory
from memsolve.recall import Recall
from memsolve.study import peak
from memsolve.study.critical_batch.noise import NoiseScales, noise_scales
from memsolve.study.formatting import format_estimate, format_value
from memsolve.study.memory import memory_of
from memsolve.study.one_step.base import StepResult, step_recalls, step_results
from memsolve.study.one_step.crossing import Crossing
from memsolve.study.one_step.points import SaturationPoint
from memsolve.study.one_step.saturation import saturation
from memsolve.theory import Law

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from memsolve.study.critical_batch.noise_figures import Curve

ITEMS_PER_RECOVERED = 8
"""Facts for each one that a step of Muon recovers by its law: fewer leave no power law to sum."""


class Scale(NamedTuple):
    """A noise scale of the study.

    Attributes:
        norm: of the gradient and of its noise.
        after_step: whether the gradient is that of the items that the step does not recover, or
            that of all items; both at `W = 0`.
    """

    norm: Literal["euclidean", "nuclear"]
    after_step: bool

    def __str__(self) -> str:
        norm = self.norm.replace("euclidean", "Euclidean")
        return f"{norm}, after the step" if self.after_step else f"{norm}, at W = 0"


SCALES = [Scale(norm, after) for after in (False, True) for norm in ("euclidean", "nuclear")]
EUCLIDEAN_AFTER_STEP = SCALES.index(Scale("euclidean", after_step=True))


@dataclass(frozen=True)
class NoiseResult(StepResult):
    """The outcome of one step, and the noise scales if it was on the population gradient.

    Attributes:
        scales: in the order of `SCALES`; empty of a batch.
    """

    scales: list[float]


@dataclass(frozen=True)
class NoisePoint(Point):
    """The noise scales and the saturation batch size at one `d`.

    Attributes:
        num_items: number of facts `N`.
        recovered: (S,) items that the step on the population gradient recovers.
        saturation: the saturation batch size `B*`, as `memsolve saturation` defines it.
        scales: (4, S) noise scales, in the order of `SCALES`.
        ratios: (4,) noise scales, mean over seeds, over `B*`.
    """

    axes: ClassVar = {"recovered": "S", "scales": "4 S", "ratios": "4"}

    num_items: int
    recovered: list[int]
    saturation: Estimate
    scales: list[list[float]]
    ratios: list[Estimate]

    def estimate(self, index: int) -> Estimate:
        """A noise scale, mean over seeds."""
        return mean(self.scales[index], POSITIVE)


class NoiseScaleStudy(Study[Grid, Cell, NoiseResult, NoisePoint]):
    """Noise scales in two norms, before and after one step, beside the saturation batch size."""

    name = "noise-scale"
    question = (
        "Which noise scale of the gradient, in which norm, predicts the saturation batch size?"
    )
    quantity = "saturation batch size B* and noise scale"
    definition = (
        "A noise scale is the batch size at which the noise of the gradient is as large as the "
        "gradient: tr(Sigma) / |G|^2 in the Euclidean norm (McCandlish et al. 2018), and in the "
        "nuclear norm, the dual of the spectral norm in which Muon takes its steps, "
        "(tr E[xi xi^T]^(1/2) / |G|_*)^2 with xi the noise of one example. That is an upper bound "
        "of the squared ratio of expected norms, which has no closed form. Both are computed "
        "exactly, from all items, at W = 0: of the gradient of all items, and of the gradient of "
        "the items that one step on the population gradient does not recover. The saturation "
        "batch size B* is that of memsolve saturation, measured on the same memories. The ratio of "
        "a noise scale and B* has its interval over seeds, with both computed anew without each."
    )
    legend = (
        "B* and, after the slash, the Euclidean noise scale after the step; ?: not identified, the "
        "report says why"
    )
    grid = Grid(("sgd", "muon"))
    cell = Cell
    result = NoiseResult
    point = NoisePoint

    def complete(self, grid: Grid) -> Grid:
        """The grid.

        Raises:
            RangeError: too few facts for a gradient after the step that is a power law.
        """
        for alpha, dim in product(grid.alphas, grid.dims):
            recovered = dim ** theory.exponent("muon", "recovered", alpha)
            least = int(ITEMS_PER_RECOVERED * recovered)
            if grid.items_of(dim) < least:
                raise RangeError(
                    f"num_items is {grid.items_of(dim)} at d = {dim}; expected at least {least}, "
                    f"{ITEMS_PER_RECOVERED} times the {recovered:.0f} items that a step of Muon "
                    f"recovers by its law at alpha = {alpha:g}; choose a larger --num-items"
                )
        return grid

    def batch_sizes(self, grid: Grid, alpha: float, dim: int) -> list[int | None]:
        """Those of `saturation`."""
        return saturation.batch_sizes(grid, alpha, dim)

    def peak(self, grid: Grid) -> Peak | None:
        """The bytes of one step."""
        return peak.largest(self, grid, peak.one_step)

    def measure(self, grid: Grid, cells: Sequence[Cell]) -> Iterator[NoiseResult]:
        """One step of each cell's optimizer; after a step on the population the noise scales."""
        memory = memory_of(grid, cells[0])
        at_zero = cache(partial(noise_scales, memory))
        for cell, recall in zip(cells, step_recalls(grid, memory, cells), strict=True):
            scales: list[float] = []
            if cell.batch_size is None:
                scales = [*at_zero(), *noise_scales_after(memory, recall)]
            yield NoiseResult(recall.count, recall.top_rank(), scales)

    def fits(self, grid: Grid, results: Mapping[Cell, NoiseResult]) -> list[Fit[NoisePoint]]:
        """The exponent of `B*` with its law, and the noise scales at each `d`."""

        def point(fit: Fit[SaturationPoint], each: SaturationPoint) -> NoisePoint:
            by_seed = step_results(grid, results, fit.optimizer, fit.alpha, each.dim)
            return noise_point(fit.alpha, grid.items_of(each.dim), each, by_seed)

        return [
            Fit(
                fit.optimizer,
                fit.alpha,
                fit.quantity,
                fit.estimate,
                fit.law,
                [point(fit, each) for each in fit.points],
            )
            for fit in saturation.fits(grid, results)
        ]

    def columns(self, fit: Fit[NoisePoint]) -> dict[str, TableCell]:
        """The exponents of `B*` and of every noise scale, each with its law."""
        cells = {"exponent of B* [95%]": TableCell.of_estimate(fit.estimate)}
        cells["law of B*"] = TableCell.of_law(fit.law)
        for scale in map(scale_fit, [fit] * len(SCALES), range(len(SCALES))):
            law = "" if scale.law is None else f" ({scale.law})"
            text = f"{scale.estimate.format()}{law}"
            cells[f"exponent of {scale.optimizer} [95%]"] = TableCell(text, scale.estimate.value)
        return cells

    def value(self, point: NoisePoint) -> str:
        """`B*` and the Euclidean noise scale after the step."""
        scale = point.estimate(EUCLIDEAN_AFTER_STEP)
        return f"{format_value(point.saturation.value)} / {format_value(scale.value)}"

    def score(self, point: NoisePoint) -> float | None:
        """`B*`."""
        return point.saturation.value

    def detail(self, point: NoisePoint) -> str:
        """`B*`, and every noise scale with its interval and its ratio to `B*`."""
        parts = [f"B* {format_estimate(point.saturation)}"]
        for index, (scale, ratio) in enumerate(zip(SCALES, point.ratios, strict=True)):
            part = f"{scale}: {format_estimate(point.estimate(index))}"
            parts.append(part if ratio.bar is None else f"{part}, {format_ratio(ratio)} times B*")
        return "; ".join(parts)

    def figures(self, summary: Summary[NoisePoint]) -> dict[str, "Figure"]:
        """`B*` and the noise scales against `d`."""
        from memsolve.study.critical_batch.noise_figures import power_laws_figure

        return {"noise-scale": power_laws_figure(summary, "examples", curves)}


def scale_fit(fit: Fit[NoisePoint], index: int) -> Fit[NoisePoint]:
    """The exponent of one noise scale of a fit, with its law, under the name of the scale."""
    points, scale = fit.points, SCALES[index]
    slope = power_law_exponent(
        [point.dim for point in points],
        [np.array(point.scales[index]) for point in points],
        [lambda draws: draws.mean(1)] * len(points),
    )
    if len(points) > 2:
        slope = replace(slope, doubts="")  # small numbers make a count coarse, not a noise scale
    law = None
    if fit.law is not None:  # the optimizer has a law, and the embeddings are isotropic
        recovered = fit.law.exponent / fit.alpha if scale.after_step else 0.0
        law = Law(theory.noise_scale_exponent(scale.norm, fit.alpha, recovered), "derived")
    return replace(fit, optimizer=str(scale), estimate=slope, law=law)


def curves(fit: Fit[NoisePoint]) -> "list[Curve[NoisePoint]]":
    """`B*` and the noise scales of a fit, for the figure."""

    def saturation_bar(point: NoisePoint) -> ErrorBar | None:
        return point.saturation.bar

    def scale_bar(index: int, point: NoisePoint) -> ErrorBar | None:
        return point.estimate(index).bar

    scales = [(scale_fit(fit, index), partial(scale_bar, index)) for index in range(len(SCALES))]
    return [(replace(fit, optimizer="B*"), saturation_bar), *scales]


def format_ratio(ratio: Estimate) -> str:
    """A ratio with its interval, to three digits; it may be small."""
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return ratio.note if ratio.value is None else f"{ratio.value:.3g}"
    return f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"


def noise_scales_after(memory: AssociativeMemory, recall: Recall) -> NoiseScales:
    """The noise scales, at `W = 0`, of the items that a step has not recovered.

    Raises:
        StepError: it has recovered all.
    """
    missed = recall.items[~recall.recovered]
    if not len(missed):
        raise StepError(
            f"its step recovers all {memory.num_items} items, after which there is no gradient; "
            "choose a larger --num-items"
        )
    return noise_scales(memory, items=missed)


def noise_point(
    alpha: float, num_items: int, point: SaturationPoint, by_seed: Sequence[NoiseResult]
) -> NoisePoint:
    """The point of a memory size, from its saturation and its steps on the population gradient."""
    recovered = [result.recovered for result in by_seed]
    crossing = Crossing(alpha, num_items, point.batch_sizes)
    counts = np.array([*point.recovered, recovered], dtype=float).T
    scales = np.array([result.scales for result in by_seed]).T

    def ratio(scale: Floats) -> Estimate:
        if point.value is None:
            return Estimate(None, note=point.note)
        return jackknife(
            [counts, scale], lambda draws: draws[1].mean(1) / crossing(draws[0]), POSITIVE
        )

    return NoisePoint(
        point.dim, num_items, recovered, point.estimate, scales.tolist(), [*map(ratio, scales)]
    )


noise_scale = NoiseScaleStudy()
