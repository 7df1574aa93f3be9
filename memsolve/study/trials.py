"""Whole training runs, tried over schedules and step sizes: what the studies of training share."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeVar, get_args

from memsolve_kernels.errors import RangeError

from memsolve.engine import Cell, Grid, Point, Study, option
from memsolve.engine.checks import check_list, positive, whole
from memsolve.engine.optimizers import resolve
from memsolve.engine.prepare import RefusedError
from memsolve.engine.sweep import literal
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory
from memsolve.seeds import seeded
from memsolve.stepper import Build, StepError
from memsolve.study.one_step import memory_of
from memsolve.training import Schedule, train

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SPREAD = 4.0
"""Between neighbours of the grid of step sizes by default."""

FACTORS = tuple(SPREAD**power for power in range(-2, 3))
"""The step sizes that are tried first, in units of `unit_step`."""

WIDENINGS = 4
"""How often a grid of step sizes is widened at most, on both sides together."""

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

    items_per_dim: ClassVar[int] = 64

    steps: int = option(50, "--steps", int, "Steps of a run.", many=False)
    schedules: Sequence[Schedule] = option(
        ("constant", "inverse", "cosine", "linear"),
        "--schedules",
        str,
        "How the step size falls: constant, inverse, cosine, linear.",
        in_cells=True,
    )
    step_sizes: Sequence[float] | None = option(
        None,
        "--step-sizes",
        float,
        "Learning rates (default: five around a first step's own).",
        in_cells=True,
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
        if not isinstance(self.gradient, str) or self.gradient not in get_args(GradientKind):
            raise RangeError(
                f"gradient is {self.gradient!r}; expected one of {get_args(GradientKind)}"
            )
        object.__setattr__(self, "schedules", list(self.schedules))

    @property
    def swept(self) -> dict[str, list[str]]:
        """The settings to vary, but for `lr`: its values are the step sizes."""
        return {key: values for key, values in super().swept.items() if key != "lr"}


@dataclass(frozen=True)
class Trial(Cell):
    """One training run.

    Attributes:
        schedule: how the step size falls.
        step_size: the learning rate that the schedule multiplies.
    """

    schedule: Schedule
    step_size: float


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
        """Every schedule and step size of the grid, of every optimizer, memory and batch size.

        Raises:
            RefusedError: optimizers whose step sizes cannot be guessed, and why.
        """
        assert isinstance(grid, Trials)
        trials = []
        tried_at = first_step_sizes(grid)
        for alpha, dim in product(grid.alphas, grid.dims):
            sizes = tried_at[alpha, dim]
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
            with seeded(grid.device, cell.seed, cell.dim):
                result = self.run(grid, memory, builders[cell.optimizer], cell)
            yield result


def trial(grid: Grid, place: Place, seed: int, schedule: Schedule, step_size: float) -> Trial:
    """A trial at a place of the grid."""
    name, alpha, dim, batch_size = place
    return Trial(name, alpha, dim, grid.items_of(dim), batch_size, seed, schedule, step_size)


def first_step_sizes(grid: Trials) -> dict[tuple[float, int], dict[str, list[float]]]:
    """The learning rates to try first, by memory, then by optimizer.

    Raises:
        RefusedError: optimizers of which they cannot be guessed, all of them, and why.
    """
    found: dict[tuple[float, int], dict[str, list[float]]] = {}
    refused: dict[str, str] = {}
    for alpha, dim, name in product(grid.alphas, grid.dims, grid.labels):
        try:
            found.setdefault((alpha, dim), {})[name] = step_sizes(grid, name, alpha, dim)
        except StepError as error:
            refused[name] = str(error)
    if refused:
        raise RefusedError(refused)
    return found


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
        with seeded(grid.device, 0, dim):
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


def by_place(results: Mapping[Trial, R]) -> dict[Place, dict[Trial, R]]:
    """Results by where they are tuned."""
    found: dict[Place, dict[Trial, R]] = {}
    for run, result in results.items():
        place = Place(run.optimizer, run.alpha, run.dim, run.batch_size)
        found.setdefault(place, {})[run] = result
    return found


def off_middle(sizes: Sequence[float], size: float) -> float:
    """How many places a step size stands from the middle of those tried."""
    return abs(sizes.index(size) - (len(sizes) - 1) / 2)
