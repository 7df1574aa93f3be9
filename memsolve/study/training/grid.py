"""The grid of a study of training runs, its trials, and the keys at which they are tuned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeVar, get_args

from memsolve_kernels.errors import RangeError

from memsolve.checks import check_list, is_int_between, is_positive
from memsolve.engine import Cell, Grid, option
from memsolve.optimizers.registry import parse
from memsolve.optimizers.sweep import parse_value
from memsolve.training import HORIZON_FREE, OWN_SCHEDULES, SCHEDULES, Schedule, mean_factor

GradientKind = Literal["exact", "thresholded"]


@dataclass(frozen=True)
class TrainingGrid(Grid):
    """A grid of training runs.

    Args:
        steps: number of steps of a run.
        schedules: how the learning rate changes from step to step, of
            `memsolve.training.SCHEDULES`. Tuning tries each.
        lrs: learning rates to try; by default those of the tuning rule. An optimizer with an
            `lr` in its name, `torch.optim.AdamW:lr=0.01`, starts with that learning rate only.
        gradient: `exact`, or `thresholded`: of the items that are not recovered yet.

    Other arguments are those of `Grid`; `N = 64 d` by default.
    """

    items_per_dim: ClassVar[int] = 64

    steps: int = option(50, "--steps", int, "Steps of a run.", many=False)
    schedules: Sequence[Schedule] = option(
        ("geometric",),
        "--schedules",
        str,
        f"How the learning rate changes: {', '.join(SCHEDULES)}.",
        in_cells=True,
    )
    lrs: Sequence[float] | None = option(
        None, "--lrs", float, "Learning rates to try (default: tuned).", in_cells=True
    )
    gradient: GradientKind = option(
        "exact", "--gradient", str, "exact, or thresholded: of items not recovered.", many=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_int_between(self.steps, 1):
            raise RangeError(f"steps is {self.steps!r}; expected a whole number of at least 1")
        object.__setattr__(self, "steps", int(self.steps))
        check_list("schedules", self.schedules, f"names of {SCHEDULES}", SCHEDULES.__contains__)
        if (words := super().swept.get("lr")) is not None:
            lrs = [parse_value("lr", word) for word in words]
            if self.lrs is not None and list(self.lrs) != lrs:
                raise RangeError(
                    f"lrs is {list(self.lrs)} and the sweep of lr {lrs}; expected "
                    "one of them: they set the same learning rates"
                )
            object.__setattr__(self, "lrs", lrs)
        if self.lrs is not None:
            check_list("lrs", self.lrs, "finite numbers above 0", is_positive)
            object.__setattr__(self, "lrs", sorted(float(lr) for lr in self.lrs))
        if not isinstance(self.gradient, str) or self.gradient not in get_args(GradientKind):
            raise RangeError(
                f"gradient is {self.gradient!r}; expected one of {get_args(GradientKind)}"
            )
        object.__setattr__(self, "schedules", list(self.schedules))

    def lrs_of(self, optimizer: str) -> list[float] | None:
        """The learning rates set for an optimizer, increasing; None where they are tuned.

        Raises:
            RangeError: an `lr` in its name that is no learning rate.
        """
        choice = self.choices[optimizer]
        settings = parse(choice)[1] if isinstance(choice, str) else {}
        if "lr" not in settings:
            return None if self.lrs is None else list(self.lrs)
        if not is_positive(settings["lr"]):
            raise RangeError(f"lr is {settings['lr']!r} in {choice!r}; expected a number above 0")
        return [float(settings["lr"])]

    @property
    def swept(self) -> dict[str, list[str]]:
        """The settings to vary, except `lr`, whose values are `lrs`."""
        return {key: values for key, values in super().swept.items() if key != "lr"}


def check_horizon_free(schedules: Sequence[Schedule]) -> None:
    """Refuse schedules that depend on the number of steps.

    Raises:
        RangeError: says which.
    """
    for schedule in schedules:
        if schedule not in HORIZON_FREE:
            raise RangeError(
                f"schedules holds {schedule!r}, which depends on the number of steps, but this "
                f"study evaluates several numbers of steps; expected {' or '.join(HORIZON_FREE)}"
            )


class Candidate(NamedTuple):
    """A schedule, and the learning rate that it multiplies.

    Attributes:
        schedule: its name.
        lr: the learning rate that it multiplies.
        ratio: of the learning rates of successive steps, for the geometric schedule; else 1.
    """

    schedule: Schedule
    lr: float
    ratio: float = 1.0

    def __str__(self) -> str:
        """`constant, learning rate 0.1`, or `geometric, learning rate 0.1, ratio 1.35`."""
        if self.schedule in OWN_SCHEDULES:
            start = f", from learning rate {self.lr:g}" if self.schedule == "own" else ""
            return f"the optimizer's own learning rates{start}"
        ratio = f", ratio {self.ratio:g}" if self.schedule == "geometric" else ""
        return f"{self.schedule}, learning rate {self.lr:g}{ratio}"


def mean_lr(candidate: Candidate, steps: int) -> float:
    """The mean of a candidate's learning rates over the steps of a run."""
    return candidate.lr * mean_factor(candidate.schedule, steps, candidate.ratio)


@dataclass(frozen=True)
class Trial(Cell):
    """A training run of a candidate, with one seed.

    Attributes:
        schedule: how the learning rate changes.
        lr: the learning rate that the schedule multiplies.
        ratio: as in `Candidate`.
    """

    schedule: Schedule
    lr: float
    ratio: float = 1.0

    @property
    def candidate(self) -> Candidate:
        """The schedule, the learning rate and the ratio."""
        return Candidate(self.schedule, self.lr, self.ratio)


class TuningKey(NamedTuple):
    """Schedule and learning rate are tuned separately for each of these."""

    optimizer: str
    alpha: float
    dim: int
    batch_size: int | None


R = TypeVar("R")
T = TypeVar("T", bound=Trial)


def tuning_key(trial: Trial) -> TuningKey:
    """The key at which a trial is tuned."""
    return TuningKey(trial.optimizer, trial.alpha, trial.dim, trial.batch_size)


def by_tuning_key(results: Mapping[T, R]) -> dict[TuningKey, dict[T, R]]:
    """Results, grouped by tuning key."""
    groups: dict[TuningKey, dict[T, R]] = {}
    for trial, result in results.items():
        groups.setdefault(tuning_key(trial), {})[trial] = result
    return groups
