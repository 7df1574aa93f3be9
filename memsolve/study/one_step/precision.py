"""How accurate an orthogonalisation must be: what inexact Muons store of what the exact one does.

The gradient's singular values span many orders of magnitude, because the frequencies do; a Muon
that does not flatten the small ones does not store the facts that live there.
"""

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from memsolve.engine import Fit, Grid, Summary, TableCell
from memsolve.engine.results.estimate import COUNT, Estimate, jackknife
from memsolve.report.drawing import (
    add_legend,
    alpha_titles,
    create_panels,
    dims,
    dims_legend,
    escape_mathtext,
    optimizers,
    shades,
)
from memsolve.study.one_step.one_step import CapacityPoint, OneStep, Results, exponent, laws, points

EXACT = "muon:backend=reference"
"""The yardstick: the polar factor by a singular value decomposition."""

VARIANTS = (
    EXACT,
    "muon",
    "muon:backend=torch",  # the default schedule, which a CPU would not take by itself
    *(f"muon:schedule=muon:steps={steps}" for steps in (5, 8, 12)),
    "muon:schedule=muon:steps=5:dtype=bfloat16",
    *(f"muon:schedule=polar-express:steps={steps}" for steps in (5, 8)),
    "muon:schedule=polar-express:steps=8:dtype=bfloat16",
    *(f"muon:lower={lower}" for lower in ("1e-2", "1e-3", "1e-4", "1e-6")),
    *(f"muon:relative_damping={damping}" for damping in ("1e-1", "1e-2", "1e-3", "1e-4", "1e-6")),
    *(f"muon:dtype={dtype}" for dtype in ("float32", "float16", "bfloat16")),
    *(f"{EXACT}:gradient_dtype={dtype}" for dtype in ("float32", "float16", "bfloat16")),
)
"""Schedule and steps, damping, precision of the sign, and precision of the gradient."""

LEAST = 6
"""So many shares are told of the figure in words."""


@dataclass(frozen=True)
class PrecisionPoint(CapacityPoint):
    """CapacityPoint beside those of the exact polar factor.

    Attributes:
        share: of what the exact one has stored; None where that is nothing.
        share_low, share_high: ends of its 95% interval; None where there is none.
    """

    share: float | None
    share_low: float | None
    share_high: float | None

    @property
    def estimate(self) -> Estimate:
        """The share with its interval."""
        return Estimate(self.share, self.share_low, self.share_high)


class Precision(OneStep[PrecisionPoint]):
    """Capacity of every optimizer, as a share of the exact polar factor's."""

    name = "precision"
    question = (
        "What Muons of less exact schedule, steps, damping or dtype store of the exact one's facts."
    )
    quantity = "share of the exact polar factor's capacity"
    legend = "?: the exact one stores nothing, so there is no share"
    definition = (
        "Items recovered by one inexact Muon step on the population gradient, relative to those "
        "of the exact polar factor on the same seeds. The gradient's singular values span many "
        "orders of magnitude; what an orthogonalisation does not flatten, it does not store."
    )
    grid = Grid(VARIANTS, dims=(256,))
    point = PrecisionPoint

    def complete(self, grid: Grid) -> Grid:
        """The grid with `EXACT` among its optimizers."""
        if EXACT in grid.labels:
            return grid
        return replace(grid, optimizers={EXACT: EXACT} | grid.choices, sweep=())

    def fits(self, grid: Grid, results: Results) -> list[Fit[PrecisionPoint]]:
        """The exponent of the number recovered, with the share at each `d`."""
        law = laws(grid, "recovered")

        def fit(optimizer: str, alpha: float) -> Fit[PrecisionPoint]:
            measured = points(grid, results, optimizer, alpha)
            exact = points(grid, results, EXACT, alpha)
            shares = [share(*pair) for pair in zip(measured, exact, strict=True)]
            slope = exponent(grid, measured)
            return Fit(optimizer, alpha, "recovered", slope, law[optimizer, alpha], shares)

        return [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]

    def columns(self, fit: Fit[PrecisionPoint]) -> dict[str, TableCell]:
        """None: the exponent is not the point."""
        return {}

    def value(self, point: PrecisionPoint) -> str:
        """The share in percent."""
        return "?" if point.share is None else f"{point.share:.0%}"

    def score(self, point: PrecisionPoint) -> float | None:
        """The share."""
        return point.share

    def detail(self, point: PrecisionPoint) -> str:
        """The share with its interval."""
        found = f"{self.value(point)} of the exact one"
        if point.share_low is not None:
            found += f" [{point.share_low:.0%}, {point.share_high:.0%}]"
        return found

    def figures(self, summary: Summary[PrecisionPoint]) -> dict[str, Figure]:
        """One panel an alpha, one row an optimizer: its share at each `d`."""
        names = optimizers(summary)
        figure, found = create_panels(
            alpha_titles(summary),
            size=(3.4, 0.3 * len(names) + 1),
            axes=("share of the exact capacity", ""),
            share=(True, True),
        )
        shade = shades(dims(summary))
        for axes in found.values():
            axes.axvline(1, color="black", lw=0.8)
            axes.tick_params(left=False, labelleft=False)
            if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                for row, name in enumerate(names):  # above its bars: it may be as long as they
                    axes.text(0.01, row - 0.22, escape_mathtext(name), va="bottom", fontsize=7)
        for fit in summary.fits:
            row, axes = names.index(fit.optimizer), found[fit.alpha]
            for point in fit.points:
                if (bar := point.estimate.bar) is not None:
                    value, low, high = bar
                    axes.errorbar(
                        value,
                        row,
                        xerr=[[value - low], [high - value]],
                        fmt="o",
                        ms=4.5,
                        capsize=2,
                        color=shade[point.dim],
                    )
        first = next(iter(found.values()))
        first.set_xlim(left=0)
        first.set(ylim=(len(names) - 0.5, -1), yticks=range(len(names)))
        bars = {"share and 95% interval over seeds": {"marker": "o", "ls": "-"}}
        add_legend(figure, dims_legend(shade) | bars)
        figure.set_label(self._told(summary))
        return {"precision": figure}

    def _told(self, summary: Summary[PrecisionPoint]) -> str:
        """The figure in words: the least shares at the largest `d`."""
        last = [(fit, fit.points[-1]) for fit in summary.fits if fit.points[-1].share is not None]
        last.sort(key=lambda pair: pair[1].share or 0)
        least = [
            f"{fit.optimizer} at alpha = {fit.alpha:g} and d = {point.dim} {self.value(point)}"
            for fit, point in last[:LEAST]
        ]
        return (
            f"Of {len(last)} shares of the exact polar factor's capacity at the largest d the "
            f"least are: {'; '.join(least)}. The table has all, with 95% intervals over seeds."
        )


def share(point: CapacityPoint, exact: CapacityPoint) -> PrecisionPoint:
    """Add the share of the exact count; seeds are compared with themselves."""
    pairs = np.array([point.recovered, exact.recovered], dtype=float).T
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = jackknife([pairs], lambda draws: np.divide(*draws[0].sum(1).T), COUNT)
    return PrecisionPoint(
        **vars(point), share=estimate.value, share_low=estimate.low, share_high=estimate.high
    )


precision = Precision()
