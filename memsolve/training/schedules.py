"""Learning-rate schedules."""

import math
from typing import Literal, get_args

from memsolve_kernels.errors import RangeError

Schedule = Literal["geometric", "constant", "inverse", "cosine", "linear", "own", "fixed"]

OWN_SCHEDULES: tuple[Schedule, ...] = ("own", "fixed")
"""Schedules of optimizers whose learning rate the trainer leaves alone, see
`memsolve.optimizers.lr_behavior`: `own` starts from one that is tuned, `fixed` from their own."""

SCHEDULES: tuple[Schedule, ...] = tuple(
    name for name in get_args(Schedule) if name not in OWN_SCHEDULES
)
"""Schedules that a study can apply to an optimizer."""

HORIZON_FREE: tuple[Schedule, ...] = ("geometric", "constant", "inverse")
"""Schedules that do not depend on the number of steps: a run contains all shorter runs."""


def schedule_factor(schedule: Schedule, step: int, steps: int, ratio: float = 1.0) -> float:
    """The factor of the learning rate at `step`, from 0 to `steps - 1`; 1 if the optimizer sets it.

    Args:
        schedule: its name.
        step: number of steps before.
        steps: number of steps of the run.
        ratio: of the factors of successive steps, for the geometric schedule only: it grows above
            1, and is constant at 1.

    Raises:
        RangeError: an unknown schedule.
    """
    if schedule == "geometric":
        return ratio**step
    if schedule == "constant" or schedule in OWN_SCHEDULES:
        return 1.0
    if schedule == "inverse":
        return 1 / (1 + step)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * step / steps)) / 2
    if schedule == "linear":
        return 1 - step / steps
    raise RangeError(f"schedule is {schedule!r}; expected one of {SCHEDULES}")


def lr_of_step(
    schedule: Schedule, lr: float, step: int, steps: int, ratio: float = 1.0
) -> float | None:
    """The learning rate that a schedule sets at `step`; None leaves it to the optimizer.

    Arguments are those of `schedule_factor`, and `lr` is the learning rate that it multiplies.
    """
    if schedule in OWN_SCHEDULES:
        return None
    return lr * schedule_factor(schedule, step, steps, ratio)


def mean_factor(schedule: Schedule, steps: int, ratio: float = 1.0) -> float:
    """The mean of `schedule_factor` over the steps."""
    return sum(schedule_factor(schedule, step, steps, ratio) for step in range(steps)) / steps
