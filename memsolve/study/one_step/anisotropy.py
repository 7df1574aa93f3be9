"""Anisotropic inputs: the capacity of one step against the exponent kappa of their spectrum."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from memsolve import theory
from memsolve.engine import Fit, Study, Summary, TableCell
from memsolve.engine.peak import Peak
from memsolve.engine.results.estimate import Estimate, power_law_exponent
from memsolve.report.formatting import format_count
from memsolve.study import peak
from memsolve.study.formatting import format_estimate
from memsolve.study.memory import memory_of
from memsolve.study.one_step.anisotropy_grid import AnisotropyCell, AnisotropyGrid
from memsolve.study.one_step.base import StepResult, laws, measure_steps, methods
from memsolve.study.one_step.points import AnisotropyPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[AnisotropyCell, StepResult]

OPTIMIZERS = (
    "sgd",
    "torch.optim.Adam",  # whose first step is that of sign descent
    "muon",
    "newton",
    "memsolve.optim.WhitenedMuon",
    "memsolve.optim.WhitenedMuon:weighted=True",
)


class AnisotropyStudy(Study[AnisotropyGrid, AnisotropyCell, StepResult, AnisotropyPoint]):
    """Items recovered from inputs of every anisotropy, and the exponents in `d`."""

    name = "anisotropy"
    question = "How many items does one step recover as the inputs become anisotropic?"
    quantity = "recovered items"
    legend = "of each d: items at kappa = 0, and at the largest kappa"
    definition = (
        "Items whose own logit is the largest after one step on the population gradient from "
        "W = 0, for input embeddings whose covariance has trace 1 and eigenvalues in proportion to "
        "j^-kappa; mean over seeds. The eigenvectors are random. Inputs at two kappas differ by a "
        "linear map only, so that counts are paired over seeds. The first step of Adam is that of "
        "sign descent. WhitenedMuon takes Muon's step in coordinates in which the second moment of "
        "the inputs is I; weighted, each input counts with its frequency. Linear maps of the "
        "inputs change no logit of Newton's method and of WhitenedMuon, up to their damping. In "
        "the law of SGD against kappa, 1 / sum_j lambda_j^2 takes the place of d."
    )
    grid = AnisotropyGrid(OPTIMIZERS, seeds=3)
    cell = AnisotropyCell
    result = StepResult
    point = AnisotropyPoint

    def complete(self, grid: AnisotropyGrid) -> AnisotropyGrid:
        """The grid with kappa = 0."""
        return grid if 0 in grid.kappas else replace(grid, kappas=[0.0, *grid.kappas])

    def cells(self, grid: AnisotropyGrid) -> list[AnisotropyCell]:
        """Every optimizer on every memory."""
        seeds = range(grid.seeds)
        return [
            AnisotropyCell(optimizer, alpha, dim, grid.items_of(dim), batch_size, seed, kappa)
            for alpha, dim, seed, kappa in product(grid.alphas, grid.dims, seeds, grid.kappas)
            for batch_size in self.batch_sizes(grid, alpha, dim)
            for optimizer in grid.labels
        ]

    def peak(self, grid: AnisotropyGrid) -> Peak | None:
        """The bytes of one step."""
        return peak.largest(self, grid, peak.one_step)

    def measure(
        self, grid: AnisotropyGrid, cells: Sequence[AnisotropyCell]
    ) -> Iterator[StepResult]:
        """One step of each cell's optimizer."""
        at_kappa = grid.at(cells[0].kappa)
        return measure_steps(at_kappa, memory_of(at_kappa, cells[0]), cells)

    def fits(self, grid: AnisotropyGrid, results: Results) -> list[Fit[AnisotropyPoint]]:
        """The counts at each `d`, and their exponent at kappa = 0."""
        law = laws(grid, "recovered")
        method = {alpha: methods(grid, alpha) for alpha in grid.alphas}

        def fit(optimizer: str, alpha: float) -> Fit[AnisotropyPoint]:
            points = anisotropy_points(grid, results, method[alpha][optimizer], optimizer, alpha)
            slope = exponent_at(points, 0)
            return Fit(optimizer, alpha, "recovered", slope, law[optimizer, alpha], points)

        return [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]

    def columns(self, fit: Fit[AnisotropyPoint]) -> dict[str, TableCell]:
        """The exponents at kappa = 0 and at the largest kappa."""
        return {
            "exponent in d at kappa = 0 [95%]": TableCell.of_estimate(fit.estimate),
            "theory at kappa = 0": TableCell.of_law(fit.law),
            "at the largest kappa [95%]": TableCell.of_estimate(exponent_at(fit.points, -1)),
        }

    def value(self, point: AnisotropyPoint) -> str:
        """Items recovered at kappa = 0 and at the largest kappa."""
        return " to ".join(format_count(float(np.mean(point.recovered[end]))) for end in (0, -1))

    def score(self, point: AnisotropyPoint) -> float:
        """Items recovered at the largest kappa."""
        return float(np.mean(point.recovered[-1]))

    def detail(self, point: AnisotropyPoint) -> str:
        """Items recovered at each kappa, with intervals, and the share that is left."""
        counts = [
            f"{format_estimate(count)} at kappa = {kappa:g}"
            for kappa, count in zip(point.kappas, point.counts, strict=True)
        ]
        return f"{', '.join(counts)}; {point.share} of kappa = 0 at kappa = {point.kappas[-1]:g}"

    def figures(self, summary: Summary[AnisotropyPoint]) -> dict[str, "Figure"]:
        """Items recovered against kappa."""
        from memsolve.study.one_step.figures import counts_against_kappa

        return {"anisotropy": counts_against_kappa(summary)}


def anisotropy_points(
    grid: AnisotropyGrid,
    results: Results,
    method: theory.Method | None,
    optimizer: str,
    alpha: float,
) -> list[AnisotropyPoint]:
    """The counts of an optimizer at every kappa, for each `d`."""

    def point(dim: int) -> AnisotropyPoint:
        num_items = grid.items_of(dim)
        by_kappa = [
            [
                results[AnisotropyCell(optimizer, alpha, dim, num_items, None, seed, kappa)]
                for seed in range(grid.seeds)
            ]
            for kappa in grid.kappas
        ]
        law = [theory.share_at_anisotropy(method, alpha, dim, kappa) for kappa in grid.kappas]
        return AnisotropyPoint(
            dim,
            num_items,
            list(grid.kappas),
            [[result.recovered for result in seeds] for seeds in by_kappa],
            [[result.top_rank for result in seeds] for seeds in by_kappa],
            [share for share in law if share is not None],
        )

    return [point(dim) for dim in grid.dims]


def exponent_at(points: Sequence[AnisotropyPoint], index: int) -> Estimate:
    """Exponent in `d` of the items recovered at the kappa of an index, mean over seeds."""
    return power_law_exponent(
        [point.dim for point in points],
        [np.array(point.recovered[index], dtype=float) for point in points],
        [lambda counts: counts.mean(1)] * len(points),
    )


anisotropy = AnisotropyStudy()
