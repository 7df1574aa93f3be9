"""How much damping Muon bears: the largest that keeps 90% of its one-step capacity."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memsolve_kernels.errors import RangeError

from memsolve import theory
from memsolve.engine import Cell, Fit, Grid, Row, Study, Summary, TableCell
from memsolve.engine.peak import Peak
from memsolve.engine.results.tidy import Measured
from memsolve.report.formatting import format_number
from memsolve.study import peak
from memsolve.study.memory import memory_of
from memsolve.study.one_step.base import draw_batch
from memsolve.study.one_step.damping_curve import DampingCurve, damping_curve
from memsolve.study.one_step.damping_point import DampingPoint, damping_point
from memsolve.study.one_step.damping_threshold import Threshold, threshold_exponent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MUON = "muon"
"""The only optimizer of the study."""


class DampingStudy(Study[Grid, Cell, DampingCurve, DampingPoint]):
    """Exponent in `d` of the largest damping, and with batches its exponent in `B`."""

    name = "damping"
    question = "How much damping does one step of Muon bear, as d and the batch size grow?"
    quantity = "largest damping, relative to the largest singular value"
    legend = "?: not identified; the report says why"
    definition = (
        "The step is U h(S) V^T with h(s) = s / sqrt(s^2 + lambda^2), from the singular values of "
        "the gradient at W = 0. The damping lambda, relative to the largest singular value, runs "
        "over powers of two. The largest damping is where the mean count over seeds, from strong "
        "damping to weak, first reaches 90% of the undamped count; it is interpolated in the "
        "logarithm of lambda, and found anew without each seed for the interval. With batches, the "
        "exponent in B is over batch sizes from d to d^alpha, and the damping that follows the "
        "batch is c max(d^-alpha, 1/B), with c measured on the population at the same d."
    )
    grid = Grid((MUON,), dims=(128, 256, 512))
    cell = Cell
    result = DampingCurve
    point = DampingPoint

    def complete(self, grid: Grid) -> Grid:
        """The grid; it can only have Muon, since the study itself damps the polar factor."""
        if list(grid.choices.values()) != [MUON]:
            raise RangeError(
                f"optimizers are {', '.join(grid.labels)}; damping measures the damped polar "
                "factor, and expects muon alone: leave out --optimizers, --add and --sweep"
            )
        return grid

    def batch_sizes(self, grid: Grid, alpha: float, dim: int) -> list[int | None]:
        """The batch sizes that the grid names, then the population."""
        return [*(grid.batch_sizes or []), None]

    def peak(self, grid: Grid) -> Peak | None:
        """The bytes of the damped steps."""
        return peak.largest(self, grid, peak.damping)

    def measure(self, grid: Grid, cells: Sequence[Cell]) -> Iterator[DampingCurve]:
        """The whole curve of each cell, by one decomposition."""
        memory = memory_of(grid, cells[0], hold_tables=True)
        for cell in cells:
            batch = draw_batch(memory, cell.batch_size, cell.seed)
            scale = theory.largest_damping(cell.alpha, cell.dim, cell.batch_size)
            yield damping_curve(memory, batch, scale)

    def fits(self, grid: Grid, results: Mapping[Cell, DampingCurve]) -> list[Fit[DampingPoint]]:
        """One fit for each alpha."""
        (label,) = grid.labels

        def threshold(alpha: float, dim: int, batch_size: int | None) -> Threshold:
            cell = Cell(label, alpha, dim, grid.items_of(dim), batch_size, 0)
            return Threshold([results[replace(cell, seed=seed)] for seed in range(grid.seeds)])

        def fit(alpha: float) -> Fit[DampingPoint]:
            thresholds = {
                dim: {
                    size: threshold(alpha, dim, size) for size in self.batch_sizes(grid, alpha, dim)
                }
                for dim in grid.dims
            }
            points = [
                damping_point(alpha, dim, grid.items_of(dim), by_size)
                for dim, by_size in thresholds.items()
            ]
            population = [by_size[None] for by_size in thresholds.values()]
            slope = threshold_exponent(
                grid.dims, population, len(grid.dims), missing_reason(points)
            )
            law = theory.damping_law(alpha) if grid.is_isotropic else None
            return Fit(label, alpha, "damping", slope, law, points)

        return [fit(alpha) for alpha in grid.alphas]

    def rows(self, fits: Sequence[Fit[DampingPoint]]) -> list[Row[DampingPoint]]:
        """The exponents in `d`; where a fit has batches, also those in `B` at the largest `d`."""
        rows = super().rows(fits)
        if any(fit.points[-1].batches for fit in fits):
            rows = [row._replace(cells=row.cells | batch_columns(row.fits[0])) for row in rows]
        return rows

    def value(self, point: DampingPoint) -> str:
        """The largest damping on the population."""
        return "?" if point.damping.value is None else format_number(point.damping.value)

    def score(self, point: DampingPoint) -> float | None:
        """The largest damping on the population."""
        return point.damping.value

    def detail(self, point: DampingPoint) -> str:
        """The largest damping with its interval and constant, and the overshoot of batches."""
        value, low, high = point.damping.value, point.damping.low, point.damping.high
        if value is None or point.constant is None:
            return point.damping.note
        text = self.value(point)
        if low is not None and high is not None:
            text += f" [{format_number(low)}, {format_number(high)}]"
        text += f", {point.constant:.2f} d^-alpha"
        if point.batches is not None:
            text += (
                f"; peak over batches {point.batches.overshoot} of the population's count, "
                f"{point.batches.following_overshoot} with a damping that follows B"
            )
        return text

    def tidy(self, result: DampingCurve) -> Iterable[Measured]:
        """The count at each damping."""
        yield Measured(1, "recovered", result.undamped)
        for octave, recovered in zip(result.octaves, result.recovered, strict=True):
            yield Measured(1, f"recovered at damping {2.0**octave:g}", recovered)

    def figures(self, summary: Summary[DampingPoint]) -> dict[str, "Figure"]:
        """The largest damping against `d`, the curves, and those of batches where there are any."""
        from memsolve.report.power_law import power_law_figure
        from memsolve.study.one_step import damping_figures

        figures = {
            "damping-against-d": power_law_figure(
                summary,
                "largest relative damping",
                lambda point: point.damping.bar,
                "estimate and 95% interval over seeds",
            ),
            "damping-curves": damping_figures.curves(summary),
        }
        if any(point.batches for fit in summary.fits for point in fit.points):
            figures["damping-against-batch"] = damping_figures.against_batch(summary)
            figures["damping-overshoot"] = damping_figures.overshoot(summary)
        return figures


def missing_reason(points: Sequence[DampingPoint]) -> str:
    """Why there is no exponent in `d`, if there is none."""
    if len(points) < 2:
        return "one dimension, no slope"
    missing = ", ".join(str(point.dim) for point in points if point.damping.value is None)
    return f"not identified at d = {missing}"


def batch_columns(fit: Fit[DampingPoint]) -> dict[str, TableCell]:
    """The exponent in `B` at the largest `d`, and its laws."""
    point = fit.points[-1]
    batches = point.batches
    laws = [theory.Law(-1.0, "published"), theory.batch_damping_law(fit.alpha)]
    return {
        "exponent in B [95%]": TableCell("-")
        if batches is None
        else TableCell(f"{batches.exponent} at d = {point.dim}", batches.exponent.value),
        "theory in B": TableCell("-")
        if fit.law is None
        else TableCell(", ".join(map(str, laws)), laws[-1].exponent),
    }


damping = DampingStudy()
