"""The comparison of optimizers on the model, as a study: its trials, their tuning, its table."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from memsolve_kernels.errors import RangeError

from memsolve.engine import Cell, Fit, Summary, TableCell
from memsolve.engine.results.estimate import Estimate, power_law_exponent
from memsolve.engine.results.tidy import Measured, measured
from memsolve.examples.factual_recall.facts import BUCKETS, NUM_ANSWERS, NUM_RELATIONS, Facts
from memsolve.examples.factual_recall.point import RecallPoint, Runs, recall_point
from memsolve.examples.factual_recall.training import RecallRun, RecallTask, measure_recall
from memsolve.faults import StepError
from memsolve.optimizers.registry import builder
from memsolve.seeds import seeded
from memsolve.study.training.grid import Candidate, TrainingGrid, Trial, TuningKey, by_tuning_key
from memsolve.study.training.selection import Selection, select
from memsolve.study.training.tuned_study import TunedStudy
from memsolve.study.training.tuning import TUNING_SEEDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPTIMIZERS = (
    "sgd",
    "torch.optim.SGD:momentum=0.9",
    "torch.optim.AdamW",
    "torch.optim.Adafactor",
    "torch.optim.Muon",
    "muon",
    "muon:momentum=0.95",
)


class FactualRecall(TunedStudy[TrainingGrid, Trial, RecallRun, RecallPoint]):
    """Facts of head, torso and tail that a small model recovers, by optimizer."""

    name = "memsolve.examples.factual_recall.study"
    question = "How many facts, frequent and rare, does a small model recover after training?"
    quantity = "facts recovered"
    definition = (
        "A model with embeddings, one layer of attention, an MLP and a head, of width d, learns N "
        f"facts, {NUM_RELATIONS} of each subject, from batches of prompts. Subjects occur with a "
        "power law of exponent alpha. A prompt contains a subject and a relation among noise "
        f"tokens; the answer is one of {NUM_ANSWERS} classes. After the last step every fact is "
        "evaluated once, and is recovered if its answer has the largest logit. The subjects are "
        "ranked and split at equal ratios of the rank: head, up to the cube root of their number; "
        "torso, up to its square; tail, the rest. Every optimizer is tuned on seed 0 by the rule "
        "of dynamics, around the learning rate whose first step is 1/32 as large as the "
        "parameters; the trial that recovers most is run on the other seeds. Optimizers for "
        "matrices only, such as Muon, train those of attention and MLP, and AdamW the other "
        "parameters, with a first step of the same relative size. A run that ends early counts 0."
    )
    legend = (
        "head, torso, tail: share of their facts recovered after the last step, at the largest d"
    )
    grid = TrainingGrid(
        OPTIMIZERS,
        dims=(64,),
        seeds=3,
        batch_sizes=(512,),
        steps=300,
        schedules=("linear",),
        device="cpu",
        dtype="float32",
    )
    cell = Trial
    result = RecallRun
    point = RecallPoint

    def complete(self, grid: TrainingGrid) -> TrainingGrid:
        """The grid, after a check that the example supports it.

        Raises:
            RangeError: a grid without batch sizes, with a thresholded gradient, with anisotropic
                embeddings, or with a number of facts that is not a multiple of those of a subject.
        """
        if grid.gradient != "exact":
            raise RangeError(
                f"gradient is {grid.gradient!r}; expected 'exact', since a model has no items to "
                "leave out"
            )
        if not grid.is_isotropic:
            raise RangeError(
                f"anisotropy is {grid.anisotropy:g} and output_anisotropy "
                f"{grid.output_anisotropy:g}; expected 0, since a model learns its embeddings"
            )
        if grid.batch_sizes is None:
            raise RangeError("batch_sizes is None; expected how many prompts a step has, as 512")
        for dim in grid.dims:
            Facts(grid.items_of(dim), grid.alphas[0], seed=0)
        return grid

    def unit_lr(self, grid: TrainingGrid, optimizer: str, alpha: float, dim: int) -> float:
        """The learning rate whose first step is of unit size, on the largest batch.

        Raises:
            StepError: the optimizer cannot train the model.
        """
        batch_size = self.batch_sizes(grid, alpha, dim)[-1]
        cell = Cell(optimizer, alpha, dim, grid.items_of(dim), batch_size, TUNING_SEEDS[0])
        try:
            with seeded(grid.device, TUNING_SEEDS[0], dim):
                return _task(grid, cell).unit_lrs()[0]
        except StepError as error:
            raise StepError(f"optimizer {optimizer!r} cannot train the model: {error}") from error

    def tuning_seeds(self, grid: TrainingGrid) -> range:
        """The seed that the report does not show."""
        return TUNING_SEEDS

    def next_cells(self, grid: TrainingGrid, results: Runs) -> list[Trial]:
        """The next trials for tuning; after tuning, the best trials on the seeds of the report."""
        tuning_runs = {trial: run for trial, run in results.items() if trial.seed in TUNING_SEEDS}
        if trials := super().next_cells(grid, tuning_runs):
            return trials
        best = {
            key: self.select(grid, runs).candidate
            for key, runs in by_tuning_key(tuning_runs).items()
        }
        seeds = range(len(TUNING_SEEDS), len(TUNING_SEEDS) + grid.seeds)
        trials = [self.trial(grid, key, seed, best[key]) for seed in seeds for key in best]
        return [trial for trial in trials if trial not in results]

    def measure(self, grid: TrainingGrid, cells: Sequence[Trial]) -> Iterator[RecallRun]:
        """The run of each trial."""
        for cell in cells:
            with seeded(grid.device, cell.seed, cell.dim):
                result = measure_recall(_task(grid, cell), cell.candidate)
            yield result

    def select(self, grid: TrainingGrid, runs: Runs) -> Selection:
        """The candidate with the most facts recovered after the last step."""
        return select(runs, grid.steps)

    def cost(self, grid: TrainingGrid, cell: Trial) -> float:
        """That of the steps: a batch takes about `d^2` operations a prompt."""
        return float(cell.batch_size or 0) * cell.dim**2 * grid.steps

    def without_times(self, result: RecallRun) -> RecallRun:
        """The time of a step is reported only of runs that ran alone."""
        return replace(result, seconds=math.nan)

    def fits(self, grid: TrainingGrid, results: Runs) -> list[Fit[RecallPoint]]:
        """One fit for each optimizer, alpha and batch size, the best first."""
        by_key = by_tuning_key(results)

        def fit(name: str, alpha: float, batch_size: int) -> Fit[RecallPoint]:
            keys = [TuningKey(name, alpha, dim, batch_size) for dim in grid.dims]
            points = [recall_point(grid, key, by_key[key]) for key in keys]
            totals = [point.totals for point in points]
            slope = power_law_exponent(
                grid.dims, totals, [lambda draws: draws.mean(1)] * len(totals)
            )
            return Fit(name, alpha, self.quantity, slope, None, points, batch_size)

        batch_sizes = grid.batch_sizes or []
        every = product(grid.alphas, batch_sizes, grid.labels)
        return self.ranked([fit(name, alpha, batch_size) for alpha, batch_size, name in every])

    def columns(self, fit: Fit[RecallPoint]) -> dict[str, TableCell]:
        """The share of each bucket, at the largest `d`."""
        return {
            bucket: TableCell(_format_estimate(share, "{:.0%}"), share.value)
            for bucket, share in zip(BUCKETS, fit.points[-1].shares, strict=True)
        }

    def value(self, point: RecallPoint) -> str:
        """Facts recovered, with the interval over seeds."""
        return _format_estimate(point.total, "{:.0f}")

    def score(self, point: RecallPoint) -> float | None:
        """Facts recovered."""
        return point.total.value

    def detail(self, point: RecallPoint) -> str:
        """Facts recovered, of how many, and the settings that recovered them."""
        edge = ", at the edge of the range" if point.at_edge else ""
        note = f"{point.note}; " if point.note else ""
        time = "" if point.seconds is None else f"; {1e3 * point.seconds:.0f} ms a step"
        return (
            f"{self.value(point)} of {point.num_items} after {point.marks[-1]} steps; {note}"
            f"{Candidate(point.schedule, point.lr, point.ratio)}{edge}{time}"
        )

    def tidy(self, result: RecallRun) -> Iterable[Measured]:
        """Facts recovered in each bucket, and the loss, at the marks; and the time of a step."""
        yield from measured([("seconds", result.seconds)], step=0)
        for mark, counts, loss in zip(result.marks, result.buckets, result.loss, strict=True):
            yield Measured(mark, "recovered", sum(counts))
            yield Measured(mark, "batch loss", loss)
            for bucket, count in zip(BUCKETS, counts, strict=True):
                yield Measured(mark, f"recovered of {bucket}", count)

    def figures(self, summary: Summary[RecallPoint]) -> dict[str, "Figure"]:
        """The share of each bucket that is recovered, against steps."""
        from memsolve.examples.factual_recall.figure import recall_figure

        return {"factual-recall": recall_figure(summary)}


study = FactualRecall()


def _task(grid: TrainingGrid, cell: Cell) -> RecallTask:
    """The task of a cell, without its schedule and learning rate."""
    assert cell.batch_size is not None
    facts = Facts(cell.num_items, cell.alpha, seed=cell.seed)
    build = builder(grid.choices[cell.optimizer])
    return RecallTask(grid, facts, build, cell.dim, cell.batch_size, cell.seed)


def _format_estimate(estimate: Estimate, template: str) -> str:
    """The value, and the interval if there is one, each formatted by a template."""
    value, *ends = (
        template.format(number)
        for number in (estimate.value, estimate.low, estimate.high)
        if number is not None
    )
    return f"{value} [{', '.join(ends)}]" if ends else value
