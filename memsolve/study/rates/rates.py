"""Rates: items recovered after each of the first steps, with the best trial at each step."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from memsolve import theory
from memsolve.engine import Fit, Study, Summary, TableCell
from memsolve.engine.peak import Peak
from memsolve.engine.prepare import RefusedError
from memsolve.engine.results.tidy import Measured, measured
from memsolve.faults import StepError
from memsolve.optimizers.registry import resolve
from memsolve.problem import AssociativeMemory
from memsolve.report.formatting import format_count
from memsolve.seeds import seeded
from memsolve.study import peak
from memsolve.study.memory import memory_of
from memsolve.study.one_step.base import methods
from memsolve.study.rates.grid import RatesGrid, RatesKey, RatesTrial
from memsolve.study.rates.point import RatesPoint, rate, rates_points
from memsolve.study.rates.selection import (
    RatesRun,
    Runs,
    by_key,
    first_candidates,
    next_candidates,
    rates_key,
    reported_candidates,
    with_items,
)
from memsolve.study.training.grid import Candidate
from memsolve.study.training.trajectory import walk
from memsolve.study.training.tuning import unit_lr
from memsolve.training import Builder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RatesStudy(Study[RatesGrid, RatesTrial, RatesRun, RatesPoint]):
    """The exponents in `d` of the numbers of items recovered after the first steps."""

    name = "rates"
    question = "How many items does each optimizer recover after 1, 2, 3, ... steps, as d grows?"
    quantity = "recovered items"
    definition = (
        "Items, of all N, whose own logit is the largest after t steps from W = 0 on the gradient "
        "of the population, or of the items not recovered yet (thresholded). Every number of "
        "steps t is tuned by itself, at each alpha and d, by one rule: the learning rate of step "
        "i is lr r^(i - 1), and 24 pairs (lr, r) are run for t steps, 12 spread over a box by a "
        "Sobol sequence and three times four around the best so far. These runs have N / 4 facts, "
        "which costs a 16th, and one or two memories. The pair that has recovered the most items "
        "after t steps, of all pairs that were run for at least t, is run again with N facts and "
        "every seed, unless one that is run so for more steps recovers 98% as many. Of the pairs "
        "run so, the best at t is reported. Its interval is over seeds, with that choice made "
        "anew without each seed; the search and the choice of d are not. The search has memories "
        "of its own, which share inputs with those of seed 0. A run that ends early, because it "
        "diverges or a step fails, counts 0 from then on. At a smaller d a seed has several "
        "memories, (max(d) / d)^2 / 4 but at most 8, and its count is their mean. Where N is less "
        "than 8 times the items recovered, N limits the count, and the exponent leaves that d "
        "out."
    )
    legend = (
        "N too small: less than 8 facts for each item recovered, so the exponent leaves this d "
        "out; edge: the best learning rate or ratio is outermost among those tried"
    )
    grid = RatesGrid()
    cell = RatesTrial
    result = RatesRun
    point = RatesPoint

    def cells(self, grid: RatesGrid) -> list[RatesTrial]:
        """The first trials of the search, for every number of steps.

        Raises:
            RefusedError: optimizers whose first learning rates cannot be inferred, and why.
        """
        units = _units(grid)
        return [
            _trial(grid, key, steps, candidate, seed, grid.search_items_of(dim))
            for alpha, dim in product(grid.alphas, grid.dims)
            for seed in grid.search_seeds(dim)
            for name, gradient in product(grid.labels, grid.gradients)
            for key in [RatesKey(name, alpha, dim, gradient)]
            for steps in range(1, grid.steps + 1)
            for candidate in first_candidates(units[name, alpha, dim], steps)
        ]

    def next_cells(self, grid: RatesGrid, results: Runs) -> list[RatesTrial]:
        """The next trials of the search; once it has ended at a key, those that are reported."""
        trials: list[RatesTrial] = []
        for key, runs in by_key(results).items():
            searched = with_items(runs, grid.search_items_of(key.dim))
            more = [
                _trial(grid, key, steps, candidate, seed, grid.search_items_of(key.dim))
                for steps in range(1, grid.steps + 1)
                for candidate in next_candidates(searched, steps)
                for seed in grid.search_seeds(key.dim)
            ]
            trials += more or [
                _trial(grid, key, steps, candidate, memory_seed, grid.items_of(key.dim))
                for candidate, steps in reported_candidates(searched, grid.steps).items()
                for seed in range(grid.seeds)
                for memory_seed in grid.memory_seeds(key.dim, seed)
            ]
        return sorted(set(trials) - set(results), key=lambda trial: (trial.memory, str(trial)))

    def group(self, cell: RatesTrial) -> Hashable:
        """Every trial is measured by itself."""
        return cell

    def part(self, cell: RatesTrial) -> Hashable:
        """Trials at one key decide on its further trials."""
        return rates_key(cell)

    def cost(self, grid: RatesGrid, cell: RatesTrial) -> float:
        """That of the logits of all items, after each step."""
        return float(cell.num_items) ** 2 * cell.dim * cell.steps

    def peak(self, grid: RatesGrid) -> Peak | None:
        """The bytes of training."""
        return peak.largest_of_training(self, grid)

    def measure(self, grid: RatesGrid, cells: Sequence[RatesTrial]) -> Iterator[RatesRun]:
        """The run of each trial."""
        memory = memory_of(grid, cells[0])
        builders = resolve(grid.choices)
        for cell in cells:
            with seeded(grid.device, cell.seed, cell.dim):
                result = run(memory, builders[cell.optimizer], cell)
            yield result

    def fits(self, grid: RatesGrid, results: Runs) -> list[Fit[RatesPoint]]:
        """One fit for each optimizer, alpha, gradient and number of steps."""
        method = {alpha: methods(grid, alpha, grid.steps) for alpha in grid.alphas}
        runs = by_key(results)
        fits = []
        for alpha, name, gradient in product(grid.alphas, grid.labels, grid.gradients):
            keys = [RatesKey(name, alpha, dim, gradient) for dim in grid.dims]
            by_dim = [rates_points(grid, key, runs[key]) for key in keys]
            for step, points in enumerate(zip(*by_dim, strict=True), start=1):
                law = theory.rate_law(method[alpha][name], gradient, alpha, step)
                quantity = f"recovered after step {step}, {gradient} gradient"
                fits.append(Fit(name, alpha, quantity, rate(points), law, list(points)))
        return fits

    def columns(self, fit: Fit[RatesPoint]) -> dict[str, TableCell]:
        """The gradient and the step, and the exponent with its law."""
        point = fit.points[0]
        return {
            "gradient": TableCell(point.gradient, point.gradient),
            "step": TableCell(str(point.step), -point.step),
            **super().columns(fit),
        }

    def ranked(self, fits: Sequence[Fit[RatesPoint]]) -> list[Fit[RatesPoint]]:
        """By alpha, gradient and step, then by the items at the largest `d`, the most first."""

        def key(fit: Fit[RatesPoint]) -> tuple[float, str, int, float]:
            last = fit.points[-1]
            return fit.alpha, last.gradient, last.step, -last.mean

        return sorted(fits, key=key)

    def value(self, point: RatesPoint) -> str:
        """Items recovered, and what to know of them."""
        remarks = [
            *(["edge"] if point.edges else []),
            *([] if point.has_enough_items else ["N too small"]),
        ]
        return ", ".join([format_count(point.mean), *remarks])

    def score(self, point: RatesPoint) -> float:
        """Items recovered."""
        return point.mean

    def detail(self, point: RatesPoint) -> str:
        """Items recovered, and the selected candidate."""
        parts = [
            f"{format_count(point.mean)} after step {point.step} ({point.candidate})",
            *([f"at the edge of those tried: {', '.join(point.edges)}"] if point.edges else []),
            *([] if point.has_enough_items else [f"N = {point.num_items} is too small"]),
        ]
        return "; ".join(parts)

    def tidy(self, result: RatesRun) -> Iterable[Measured]:
        """Items recovered after each step."""
        return measured([(f"recovered, {result.gradient} gradient", result.recovered)], step=0)

    def figures(self, summary: Summary[RatesPoint]) -> dict[str, "Figure"]:
        """Exponents against the step, and items against the step at each `d`."""
        from memsolve.study.rates import figures

        return {
            "rates": figures.exponents(summary),
            "rates-items": figures.items(summary),
        }


def run(memory: AssociativeMemory, build: Builder, cell: RatesTrial) -> RatesRun:
    """The run of a trial, evaluated on all items after every step."""
    result = RatesRun(cell.gradient)
    try:
        for _, recall in walk(memory, build, cell, cell.steps, cell.gradient):
            result.recovered.append(recall.count)
    except StepError as error:
        return replace(result, failed=str(error))
    return result


def _trial(
    grid: RatesGrid, key: RatesKey, steps: int, candidate: Candidate, seed: int, num_items: int
) -> RatesTrial:
    name, alpha, dim, gradient = key
    return RatesTrial(name, alpha, dim, num_items, None, seed, *candidate, steps, gradient)


def _units(grid: RatesGrid) -> dict[tuple[str, float, int], float]:
    """`unit_lr` of every optimizer, alpha and `d`.

    Raises:
        RefusedError: all optimizers for which there is none, and why.
    """
    units: dict[tuple[str, float, int], float] = {}
    refused: dict[str, str] = {}
    for name, alpha, dim in product(grid.labels, grid.alphas, grid.dims):
        try:
            units[name, alpha, dim] = unit_lr(grid, name, alpha, dim)
        except StepError as error:
            refused[name] = str(error)
    if refused:
        raise RefusedError(refused)
    return units


rates = RatesStudy()
