"""What is tried in a study of training: whole runs, over schedules and step sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeVar, get_args

from memsolve_kernels.errors import RangeError

from memsolve.checks import check_list, is_int_between, is_positive
from memsolve.engine import Cell, Grid, option
from memsolve.optimizers.registry import parse
from memsolve.optimizers.sweep import parse_value
from memsolve.training import Schedule

GradientKind = Literal["exact", "thresholded"]


@dataclass(frozen=True)
class TrainingGrid(Grid):
    """A grid of whole training runs.

    Args:
        steps: how many steps a run takes.
        schedules: how the step size falls, each tried: constant, inverse (`1/(1+t)`), cosine,
            linear.
        lrs: learning rates to try; default those of the tuning rule. An optimizer with an
            `lr` in its name, `torch.optim.AdamW:lr=0.01`, has that one alone.
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
        known = get_args(Schedule)
        check_list("schedules", self.schedules, f"names of {known}", known.__contains__)
        if (words := super().swept.get("lr")) is not None:
            rates = [parse_value("lr", word) for word in words]
            if self.lrs is not None and list(self.lrs) != rates:
                raise RangeError(
                    f"lrs is {list(self.lrs)} and the sweep of lr {rates}; expected "
                    "one of them: they are the same"
                )
            object.__setattr__(self, "lrs", rates)
        if self.lrs is not None:
            check_list("lrs", self.lrs, "finite numbers above 0", is_positive)
            object.__setattr__(self, "lrs", sorted(float(size) for size in self.lrs))
        if not isinstance(self.gradient, str) or self.gradient not in get_args(GradientKind):
            raise RangeError(
                f"gradient is {self.gradient!r}; expected one of {get_args(GradientKind)}"
            )
        object.__setattr__(self, "schedules", list(self.schedules))

    def lrs_of(self, optimizer: str) -> list[float] | None:
        """The step sizes that are set for an optimizer, increasing; None where they are tuned.

        Raises:
            RangeError: an `lr` in its name that is no step size.
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
        """The settings to vary, but for `lr`: its values are the step sizes."""
        return {key: values for key, values in super().swept.items() if key != "lr"}


def check_horizon_free(schedules: Sequence[Schedule]) -> None:
    """Refuse schedules that depend on the number of steps.

    Raises:
        RangeError: says which.
    """
    for schedule in schedules:
        if schedule not in ("constant", "inverse"):
            raise RangeError(
                f"schedules holds {schedule!r}, which depends on the number of steps, and this "
                "study looks at many of them; expected constant or inverse"
            )


@dataclass(frozen=True)
class Trial(Cell):
    """One training run.

    Attributes:
        schedule: how the step size falls.
        lr: the learning rate that the schedule multiplies.
    """

    schedule: Schedule
    lr: float


class TuningKey(NamedTuple):
    """Where step size and schedule are tuned: once for each of these."""

    optimizer: str
    alpha: float
    dim: int
    batch_size: int | None


R = TypeVar("R")
T = TypeVar("T", bound=Trial)


def by_tuning_key(results: Mapping[T, R]) -> dict[TuningKey, dict[T, R]]:
    """Results by where they are tuned."""
    found: dict[TuningKey, dict[T, R]] = {}
    for run, result in results.items():
        place = TuningKey(run.optimizer, run.alpha, run.dim, run.batch_size)
        found.setdefault(place, {})[run] = result
    return found
