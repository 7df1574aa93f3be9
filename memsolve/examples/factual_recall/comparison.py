"""The comparison of optimizers on the model, as a study: its trials, their tuning, its table."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from matplotlib.figure import Figure
from memsolve_kernels.errors import RangeError

from memsolve.engine import Cell, Fit, Summary
from memsolve.engine.results.estimate import Estimate, power_law_exponent
from memsolve.engine.results.tidy import Measured
from memsolve.examples.factual_recall.facts import ANSWERS, BUCKETS, RELATIONS, Facts
from memsolve.examples.factual_recall.figure import by_bucket
from memsolve.examples.factual_recall.outcome import TUNED_ON, Recalled, Recollections, recalled
from memsolve.examples.factual_recall.training import Lesson, Recollection, recollect
from memsolve.faults import StepError
from memsolve.optimizers.registry import builder
from memsolve.seeds import seeded
from memsolve.study.training.grid import TrainingGrid, Trial, TuningKey, by_tuning_key
from memsolve.study.training.trajectory import choose
from memsolve.study.training.tuned_study import TunedStudy
from memsolve.study.training.tuning import Selection

OPTIMIZERS = (
    "sgd",
    "torch.optim.SGD:momentum=0.9",
    "torch.optim.AdamW",
    "torch.optim.Adafactor",
    "torch.optim.Muon",
    "muon",
    "muon:momentum=0.95",
)


class FactualRecall(TunedStudy[TrainingGrid, Trial, Recollection, Recalled]):
    """Facts of head, torso and tail that a small model recalls, each optimizer tuned alike."""

    name = "memsolve.examples.factual_recall.study"
    question = "Facts that a small model recalls, by how often each was met."
    quantity = "facts recalled"
    definition = (
        "A model with embeddings, one layer of attention, an MLP and a head, d wide, learns N "
        f"facts, {RELATIONS} of each subject, from batches of prompts. Subjects are met by a power "
        "law of exponent alpha. A prompt holds a subject and a relation among words that mean "
        f"nothing; the model answers with one of {ANSWERS} words. After the last step every fact "
        "is asked for once, and is recalled if the answer has the largest logit. The subjects are "
        "ranked and cut at equal ratios of the rank: head, up to the cube root of their number; "
        "torso, up to its square; tail, the rest. Every optimizer is tuned by the rule of dynamics "
        "on seed 0, in the middle the learning rate whose first step is 1/32 as large as the "
        "parameters; what has recalled most is measured on the other seeds. What takes matrices "
        "alone, as Muon, trains those of attention and MLP, and AdamW the rest, with the same "
        "first step relative to what it trains. A run that ends early counts 0."
    )
    legend = "head, torso, tail: share of their facts recalled in the end, at the largest d"
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
    result = Recollection
    point = Recalled

    def complete(self, grid: TrainingGrid) -> TrainingGrid:
        """The grid, which has batches; the facts of every model are whole subjects.

        Raises:
            RangeError: a grid that has not.
        """
        if grid.gradient != "exact":
            raise RangeError(
                f"gradient is {grid.gradient!r}; expected 'exact', since a model has no items to "
                "leave out"
            )
        if grid.batch_sizes is None:
            raise RangeError("batch_sizes is None; expected how many prompts a step has, as 512")
        for dim in grid.dims:
            Facts(grid.items_of(dim), grid.alphas[0], seed=0)
        return grid

    def unit(self, grid: TrainingGrid, optimizer: str, alpha: float, dim: int) -> float:
        """The learning rate whose first step is of unit size, on the largest batch.

        Raises:
            StepError: the optimizer cannot train the model.
        """
        size = self.batch_sizes(grid, alpha, dim)[-1]
        cell = Cell(optimizer, alpha, dim, grid.items_of(dim), size, TUNED_ON[0])
        try:
            with seeded(grid.device, TUNED_ON[0], dim):
                return _lesson(grid, cell).unit_rates()[0]
        except StepError as error:
            raise StepError(f"optimizer {optimizer!r} cannot train the model: {error}") from error

    def tuned_on(self, grid: TrainingGrid) -> range:
        """The seed that is not shown."""
        return TUNED_ON

    def next_cells(self, grid: TrainingGrid, results: Recollections) -> list[Trial]:
        """What tuning asks for; once it has ended, the best on the seeds that are shown."""
        tuned = {run: result for run, result in results.items() if run.seed in TUNED_ON}
        if further := super().next_cells(grid, tuned):
            return further
        best = {place: self.select(runs)[:2] for place, runs in by_tuning_key(tuned).items()}
        shown = range(len(TUNED_ON), len(TUNED_ON) + grid.seeds)
        wanted = [self.trial(grid, place, seed, best[place]) for seed in shown for place in best]
        return [run for run in wanted if run not in results]

    def measure(self, grid: TrainingGrid, cells: Sequence[Trial]) -> Iterator[Recollection]:
        """Each trial's run."""
        for cell in cells:
            with seeded(grid.device, cell.seed, cell.dim):
                result = recollect(_lesson(grid, cell), cell.schedule, cell.lr)
            yield result

    def select(self, runs: Recollections) -> Selection:
        """What has recalled most in the end."""
        return choose(runs)

    def fits(self, grid: TrainingGrid, results: Recollections) -> list[Fit[Recalled]]:
        """One fit an optimizer, alpha and batch size, the best first."""
        places = by_tuning_key(results)

        def fit(name: str, alpha: float, size: int) -> Fit[Recalled]:
            at = [TuningKey(name, alpha, dim, size) for dim in grid.dims]
            points = [recalled(grid, place, places[place]) for place in at]
            totals = [point.totals for point in points]
            slope = power_law_exponent(
                grid.dims, totals, [lambda draws: draws.mean(1)] * len(totals)
            )
            return Fit(name, alpha, self.quantity, slope, None, points, size)

        sizes = grid.batch_sizes or []
        every = product(grid.alphas, sizes, grid.labels)
        return self.ranked([fit(name, alpha, size) for alpha, size, name in every])

    def columns(self, fit: Fit[Recalled]) -> dict[str, str]:
        """The share of each bucket, at the largest `d`."""
        shares = fit.points[-1].shares
        told = [_told(share, "{:.0%}") for share in shares]
        return dict(zip(BUCKETS, told, strict=True))

    def value(self, point: Recalled) -> str:
        """Facts recalled, with the interval over seeds."""
        return _told(point.total, "{:.0f}")

    def score(self, point: Recalled) -> float | None:
        """Facts recalled."""
        return point.total.value

    def detail(self, point: Recalled) -> str:
        """Facts recalled, of how many, and how."""
        edge = ", at the edge of those tried" if point.edge else ""
        early = f"{point.note}; " if point.note else ""
        return (
            f"{self.value(point)} of {point.num_items} after {point.marks[-1]} steps; {early}"
            f"{point.schedule}, step size {point.lr:g}{edge}; "
            f"{1e3 * point.seconds:.0f} ms a step"
        )

    def tidy(self, result: Recollection) -> Iterable[Measured]:
        """Facts recalled of each bucket, and the loss, at the marks; and the time of a step."""
        yield Measured(0, "seconds", result.seconds)
        for mark, counts, loss in zip(result.marks, result.buckets, result.loss, strict=True):
            yield Measured(mark, "recovered", sum(counts))
            yield Measured(mark, "batch loss", loss)
            for bucket, number in zip(BUCKETS, counts, strict=True):
                yield Measured(mark, f"recovered of {bucket}", number)

    def figures(self, summary: Summary[Recalled]) -> dict[str, Figure]:
        """The share of each bucket that is recalled, against steps."""
        return {"factual-recall": by_bucket(summary)}


study = FactualRecall()


def _lesson(grid: TrainingGrid, cell: Cell) -> Lesson:
    """What decides the run of a cell but its step size."""
    assert cell.batch_size is not None
    facts = Facts(cell.num_items, cell.alpha, seed=cell.seed)
    build = builder(grid.choices[cell.optimizer])
    return Lesson(grid, facts, build, cell.dim, cell.batch_size, cell.seed)


def _told(estimate: Estimate, form: str) -> str:
    """As text, each number in a form; without an interval the number alone."""
    ends = [end for end in (estimate.low, estimate.high) if end is not None]
    told = [form.format(number) for number in (estimate.value, *ends)]
    return f"{told[0]} [{told[1]}, {told[2]}]" if ends else told[0]
