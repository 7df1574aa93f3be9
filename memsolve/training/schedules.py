"""Learning-rate schedules."""

import math
from typing import Literal, get_args

from memsolve_kernels.errors import RangeError

Schedule = Literal["geometric", "constant", "inverse", "cosine", "linear"]

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)

HORIZON_FREE: tuple[Schedule, ...] = ("geometric", "constant", "inverse")
"""Schedules that do not depend on the number of steps: a run contains all shorter runs."""


def schedule_factor(schedule: Schedule, step: int, steps: int, ratio: float = 1.0) -> float:
    """The factor of the learning rate at `step`, from 0 to `steps - 1`.

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
    if schedule == "constant":
        return 1.0
    if schedule == "inverse":
        return 1 / (1 + step)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * step / steps)) / 2
    if schedule == "linear":
        return 1 - step / steps
    raise RangeError(f"schedule is {schedule!r}; expected one of {SCHEDULES}")


def mean_factor(schedule: Schedule, steps: int, ratio: float = 1.0) -> float:
    """The mean of `schedule_factor` over the steps."""
    return sum(schedule_factor(schedule, step, steps, ratio) for step in range(steps)) / steps
