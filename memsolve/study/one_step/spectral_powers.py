"""The capacity of one step `U f(S) V^T`, where `f` is a power or draws random singular values."""

from typing import TYPE_CHECKING

from memsolve import theory
from memsolve.engine import Fit, Grid, Summary, TableCell
from memsolve.optim import SpectralPower
from memsolve.study.one_step.base import (
    Results,
    capacity_exponent,
    capacity_points,
    laws,
    optimizers,
)
from memsolve.study.one_step.counts import CountStudy
from memsolve.study.one_step.points import SpectralPoint
from memsolve.study.one_step.spectral_exponent import finite_exponent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POWERS = -0.25, -0.125, 0.0, 0.125, 0.25, 0.5, 0.75, 1.0

OPTIMIZERS = (
    *(f"memsolve.optim.SpectralPower:power={power:g}" for power in POWERS),
    "memsolve.optim.RandomSpectrum",
    "memsolve.optim.Kaon",
    "memsolve.optim.Kaon:steps=20",
)


class SpectralPowersStudy(CountStudy[SpectralPoint]):
    """Exponent in `d` of the number of items recovered, against the power of singular values."""

    name = "spectral-powers"
    question = "How does capacity depend on a step's singular values, between SGD's and Muon's?"
    definition = (
        "Items whose own logit is the largest after one step U S^p V^T on the population gradient "
        "U S V^T from W = 0, mean over seeds; p = 1 is SGD and p = 0 is Muon. Theory is the limit "
        "of large d. Theory at these d is the slope of the expected counts at the same d and N, "
        "derived by the same argument without its limit. Other optimizers have no p."
    )
    grid = Grid(OPTIMIZERS)
    point = SpectralPoint

    def fits(self, grid: Grid, results: Results) -> list[Fit[SpectralPoint]]:
        """The exponent, and the counts of every seed at each `d`."""
        law, instances = laws(grid, "recovered"), optimizers(grid)

        def fit(label: str, alpha: float) -> Fit[SpectralPoint]:
            optimizer, counts = instances[label], capacity_points(grid, results, label, alpha)
            power = optimizer.defaults["power"] if type(optimizer) is SpectralPower else None
            points = [SpectralPoint(**vars(point), power=power) for point in counts]
            slope = capacity_exponent(grid, counts)
            spectral_law = theory.spectral_law(optimizer, alpha) if grid.is_isotropic else None
            return Fit(label, alpha, "recovered", slope, law[label, alpha] or spectral_law, points)

        return [fit(label, alpha) for alpha in grid.alphas for label in grid.labels]

    def columns(self, fit: Fit[SpectralPoint]) -> dict[str, TableCell]:
        """The power, the exponent, and what theory says in the limit and at these `d`."""
        power = fit.points[0].power
        slope = None if fit.law is None else finite_exponent(power, fit.alpha, fit.points)
        return {
            "p": TableCell("-") if power is None else TableCell(f"{power:g}", power),
            **super().columns(fit),
            "theory at these d": TableCell("-" if slope is None else f"{slope:.2f}", slope),
        }

    def figures(self, summary: Summary[SpectralPoint]) -> dict[str, "Figure"]:
        """The exponent against the power, and the counts against `d`."""
        from memsolve.study.one_step.spectral_figure import exponents_against_power

        return {
            "exponent-against-power": exponents_against_power(summary),
            **super().figures(summary),
        }


spectral_powers = SpectralPowersStudy()
