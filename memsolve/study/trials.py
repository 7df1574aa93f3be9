"""Whole training runs, tried over schedules and step sizes: what the studies of training share."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from memsolve_kernels import retrieval
from memsolve_kernels.errors import RangeError

from memsolve import theory
from memsolve.engine import Cell, Grid, Point, Study, option
from memsolve.engine.checks import check_list, positive, whole
from memsolve.engine.optimizers import resolve
from memsolve.engine.sweep import literal
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory, Batch
from memsolve.recall import Recall
from memsolve.training import Build, Schedule, State, StepError, factor, train

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ITEMS_PER_DIM = 64
SPREAD = 4.0
"""Between neighbours of the grid of step sizes by default."""

FACTORS = tuple(SPREAD**power for power in range(-2, 3))
"""The step sizes that are tried first, in units of `unit_step`."""

WIDENINGS = 4
"""How often a grid of step sizes is widened at most, on both sides together."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
GradientKind = Literal["exact", "thresholded"]


@dataclass(frozen=True)
class Trials(Grid):
    """A grid of whole training runs.

    Args:
        steps: how many steps a run takes.
        schedules: how the step size falls, each tried: constant, inverse (`1/(1+t)`), cosine,
            linear.
        step_sizes: learning rates to try; default five, a factor 4 apart, around the one at which
            a first step gives the most frequent item a logit of `log N`.
        gradient: `exact`, or `thresholded`: that of the items not recovered yet.

    Other arguments are those of `Grid`; `N = 64 d` by default.
    """

    steps: int = option(50, "--steps", int, "Steps of a run.", many=False)
    schedules: Sequence[Schedule] = option(
        ("constant", "inverse", "cosine", "linear"),
        "--schedules",
        str,
        "How the step size falls: constant, inverse, cosine, linear.",
    )
    step_sizes: Sequence[float] | None = option(
        None, "--step-sizes", float, "Learning rates (default: five around a first step's own)."
    )
    gradient: GradientKind = option(
        "exact", "--gradient", str, "exact, or thresholded: of items not recovered.", many=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not whole(self.steps, 1):
            raise RangeError(f"steps is {self.steps!r}; expected a whole number of at least 1")
        known = get_args(Schedule)
        check_list("schedules", self.schedules, f"names of {known}", known.__contains__)
        if (words := super().swept.get("lr")) is not None:
            rates = [literal("lr", word) for word in words]
            if self.step_sizes is not None and list(self.step_sizes) != rates:
                raise RangeError(
                    f"step_sizes is {list(self.step_sizes)} and the sweep of lr {rates}; expected "
                    "one of them: they are the same"
                )
            object.__setattr__(self, "step_sizes", rates)
        if self.step_sizes is not None:
            check_list("step_sizes", self.step_sizes, "finite numbers above 0", positive)
            object.__setattr__(self, "step_sizes", sorted(float(size) for size in self.step_sizes))
        if self.gradient not in get_args(GradientKind):
            raise RangeError(
                f"gradient is {self.gradient!r}; expected one of {get_args(GradientKind)}"
            )
        object.__setattr__(self, "schedules", list(self.schedules))

    @property
    def swept(self) -> dict[str, list[str]]:
        """The settings to vary, but for `lr`: its values are the step sizes."""
        return {key: values for key, values in super().swept.items() if key != "lr"}

    def items_of(self, dim: int) -> int:
        """Number of facts of a memory of dimension `dim`."""
        return ITEMS_PER_DIM * dim if self.num_items is None else self.num_items


@dataclass(frozen=True)
class Trial(Cell):
    """One training run.

    Attributes:
        schedule: how the step size falls.
        step_size: the learning rate that the schedule multiplies.
    """

    schedule: Schedule
    step_size: float


@dataclass(frozen=True)
class Trajectory:
    """What a run has come to, step by step; shorter than asked for where it diverged.

    Attributes:
        recovered: items recovered of all after each step.
        top_rank: highest recovered rank after each step.
        loss: on the batch of each step, of the weight before it.
        seconds: median of a step, recall not included.
        marks: steps after which margins were taken: powers of two, and the last.
        margins: at each mark, quantiles (5, 25, 50, 75 and 95%) of the margins of the items that
            `d` could hold (`theory.limit`).
    """

    recovered: list[int]
    top_rank: list[int]
    loss: list[float]
    seconds: float
    marks: list[int]
    margins: list[list[float]]

    @property
    def final(self) -> int:
        """Items recovered after the last step."""
        return self.recovered[-1] if self.recovered else 0


class Place(NamedTuple):
    """Where step size and schedule are tuned: once for each of these."""

    optimizer: str
    alpha: float
    dim: int
    batch_size: int | None


class Choice(NamedTuple):
    """The schedule and step size that serve best at a place.

    Attributes:
        schedule, step_size: of the chosen trial.
        edge: it is the smallest or largest step size tried, even after widening.
    """

    schedule: Schedule
    step_size: float
    edge: bool


R = TypeVar("R", bound="DataclassInstance")
P = TypeVar("P", bound=Point)
Runs = Mapping[Trial, Trajectory]


class ManySteps(Study[Trial, R, P]):
    """A study of whole training runs.

    Tuning is the same for every optimizer: at each `Place`, each schedule is tried with each step
    size of the grid. Where the one that `choose` prefers has the smallest or largest step size,
    the next one is tried as well, up to `WIDENINGS` times.
    """

    cell = Trial

    @abstractmethod
    def run(self, grid: Trials, memory: AssociativeMemory, build: Build, cell: Trial) -> R:
        """One trial's run."""

    @abstractmethod
    def choose(self, runs: Mapping[Trial, R]) -> Choice:
        """The best schedule and step size of the trials of one place."""

    def batch_sizes(self, grid: Grid, alpha: float, dim: int) -> list[int | None]:
        """Those of the grid; the population without any."""
        return [None] if grid.batch_sizes is None else [*grid.batch_sizes]

    def cells(self, grid: Grid) -> list[Trial]:
        """Every schedule and step size of the grid, of every optimizer, memory and batch size."""
        assert isinstance(grid, Trials)
        trials = []
        for alpha, dim in product(grid.alphas, grid.dims):
            sizes = {name: step_sizes(grid, name, alpha, dim) for name in grid.labels}
            for seed, batch_size in product(range(grid.seeds), self.batch_sizes(grid, alpha, dim)):
                for name in grid.labels:
                    place = Place(name, alpha, dim, batch_size)
                    trials += [
                        trial(grid, place, seed, *tried)
                        for tried in product(grid.schedules, sizes[name])
                    ]
        return trials

    def more(self, grid: Grid, results: Mapping[Trial, R]) -> list[Trial]:
        """The next step size wherever the best one so far is the smallest or the largest."""
        assert isinstance(grid, Trials)
        first = len(FACTORS) if grid.step_sizes is None else len(grid.step_sizes)
        found = []
        for place, runs in by_place(results).items():
            sizes = sorted({run.step_size for run in runs})
            if len(sizes) - first >= WIDENINGS or not (chosen := self.choose(runs)).edge:
                continue
            lowest = chosen.step_size == sizes[0]
            size = readable(sizes[0] / SPREAD if lowest else sizes[-1] * SPREAD)
            found += [
                trial(grid, place, seed, schedule, size)
                for seed, schedule in product(range(grid.seeds), grid.schedules)
            ]
        return found

    def measure(self, grid: Grid, cells: Sequence[Trial]) -> Iterator[R]:
        """Each trial's run."""
        assert isinstance(grid, Trials)
        memory = memory_of(grid, cells[0])
        builders = resolve(grid.choices)
        for cell in cells:
            try:
                yield self.run(grid, memory, builders[cell.optimizer], cell)
            except StepError as error:
                raise StepError(f"{error}, at {cell}") from error


def trial(grid: Grid, place: Place, seed: int, schedule: Schedule, step_size: float) -> Trial:
    """A trial at a place of the grid."""
    name, alpha, dim, batch_size = place
    return Trial(name, alpha, dim, grid.items_of(dim), batch_size, seed, schedule, step_size)


def memory_of(grid: Grid, cell: Cell) -> AssociativeMemory:
    """The memory of a cell."""
    return AssociativeMemory(
        cell.num_items,
        cell.dim,
        cell.alpha,
        seed=cell.seed,
        device=grid.device,
        dtype=getattr(torch, grid.dtype),
    )


def step_sizes(grid: Trials, optimizer: str, alpha: float, dim: int) -> list[float]:
    """The learning rates to try first, increasing."""
    if grid.step_sizes is not None:
        return list(grid.step_sizes)
    unit = unit_step(grid, optimizer, alpha, dim)
    return [readable(unit * factor) for factor in FACTORS]


def unit_step(grid: Trials, optimizer: str, alpha: float, dim: int) -> float:
    """The learning rate whose first step gives the most frequent item a logit of `log N`.

    Of the population gradient of seed 0. There that item's probability becomes about one half,
    whatever units an optimizer counts its steps in.

    Raises:
        StepError: no learning rate does.
    """
    memory = memory_of(grid, Cell(optimizer, alpha, dim, grid.items_of(dim), None, 0))
    objective = Objective(memory, memory.population())
    build = resolve(grid.choices)[optimizer]
    try:
        state = next(train(objective, build, [objective.batch], [1.0]), None)
    except StepError as error:
        raise StepError(f"optimizer {optimizer!r} cannot be trained with: {error}") from error
    logit = 0.0 if state is None else float(memory.outputs[0] @ state.weight @ memory.inputs[0])
    if not logit > 0:
        raise StepError(
            f"optimizer {optimizer!r} does not raise the logit of the most frequent item in its "
            "first step at a learning rate of 1, so step sizes cannot be guessed: give step_sizes"
        )
    return math.log(memory.num_items) / logit


def readable(step_size: float) -> float:
    """Two digits of it, as a person would write it."""
    return float(f"{step_size:.1e}")


def walk(
    grid: Trials, memory: AssociativeMemory, build: Build, cell: Trial
) -> Iterator[tuple[State, Recall]]:
    """A trial step by step, with the recall of all items after each."""
    stored = torch.zeros(memory.num_items, dtype=torch.bool, device=memory.inputs.device)

    def batches() -> Iterator[Batch]:
        for step in range(grid.steps):
            batch = draw(memory, cell, step)
            yield remaining(batch, stored) if grid.gradient == "thresholded" else batch

    rates = [cell.step_size * factor(cell.schedule, step, grid.steps) for step in range(grid.steps)]
    for state in train(Objective(memory, memory.population()), build, batches(), rates):
        recall = memory.recall(state.weight)
        stored = recall.recovered
        yield state, recall


def trajectory(grid: Trials, memory: AssociativeMemory, build: Build, cell: Trial) -> Trajectory:
    """One whole run, evaluated on all items after every step."""
    steps = grid.steps
    marks = sorted({*(2**k for k in range(steps.bit_length()) if 2**k <= steps), steps})
    found = Trajectory([], [], [], math.nan, [], [])
    seconds = []
    for state, recall in walk(grid, memory, build, cell):
        found.recovered.append(recall.count)
        found.top_rank.append(recall.top_rank())
        found.loss.append(state.loss)
        seconds.append(state.seconds)
        if state.step in marks:
            found.marks.append(state.step)
            found.margins.append(margins(memory, state.weight))
    return replace(found, seconds=float(np.median(seconds))) if seconds else found


def draw(memory: AssociativeMemory, cell: Trial, step: int) -> Batch:
    """The batch of a step: the same for every optimizer and trial; else the population."""
    if cell.batch_size is None:
        return memory.population()
    entropy = [cell.seed, cell.dim, cell.batch_size, step]
    (state,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return memory.sample(cell.batch_size, torch.Generator().manual_seed(int(state)))


def remaining(batch: Batch, stored: torch.Tensor) -> Batch:
    """The items of a batch that are not stored yet, with their weights: the paper's threshold."""
    left = ~stored[batch.items]
    return Batch(batch.items[left], batch.weights[left])


def margins(memory: AssociativeMemory, weight: torch.Tensor) -> list[float]:
    """`QUANTILES` of the margins of the most frequent items, as many as `d` could hold."""
    count = min(memory.num_items, math.ceil(theory.limit(memory.dim, memory.num_items)))
    items = torch.arange(count, device=memory.inputs.device)
    found = retrieval(memory.inputs[items] @ weight.T, memory.outputs, items).margin
    levels = torch.tensor(QUANTILES, dtype=found.dtype, device=found.device)
    return [float(value) for value in torch.quantile(found, levels)]


def by_place(results: Mapping[Trial, R]) -> dict[Place, dict[Trial, R]]:
    """Results by where they are tuned."""
    found: dict[Place, dict[Trial, R]] = {}
    for run, result in results.items():
        place = Place(run.optimizer, run.alpha, run.dim, run.batch_size)
        found.setdefault(place, {})[run] = result
    return found


def choose(runs: Runs) -> Choice:
    """What has recovered most items after the last step, mean over seeds.

    Of equals, what has the lower loss, and then the step size nearer to the middle of those tried,
    so that none is at an edge for nothing; a run that diverged is worst.
    """
    steps = max(len(result.recovered) for result in runs.values())
    scores: dict[tuple[Schedule, float], list[tuple[float, float]]] = {}
    for run, result in runs.items():
        whole_run = 0 < steps == len(result.recovered)
        score = (result.final, -result.loss[-1]) if whole_run else (0.0, -math.inf)
        scores.setdefault((run.schedule, run.step_size), []).append(score)
    means = {tried: tuple(np.mean(np.array(score), axis=0)) for tried, score in scores.items()}
    sizes = sorted({tried for _, tried in means})
    schedule, size = max(means, key=lambda tried: (*means[tried], -off_middle(sizes, tried[1])))
    return Choice(schedule, size, edge=len(sizes) > 1 and size in (sizes[0], sizes[-1]))


def off_middle(sizes: Sequence[float], size: float) -> float:
    """How many places a step size stands from the middle of those tried."""
    return abs(sizes.index(size) - (len(sizes) - 1) / 2)
