"""Schedules with the code that makes them and their cost, in the order in which they are tried.

What a schedule resolves is computed on the singular values themselves, relative to the Frobenius
norm of their matrix. A schedule of `minimax` that is cut off by `take` is not extended for the
rank of a matrix, as an explicit one is: that allows for any spectrum, and this one is known.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import STOCK, Schedule, minimax
from memsolve_kernels.matrix_sign.settings import Settings
from numpy.typing import NDArray

from memsolve.spectrum.singular_values import Floats, Spectrum

ROUNDINGS = 4
"""Roundings of the dtype that are left of the tolerance for the iteration's own."""

OCTAVES = 4
"""How far below the bound of the spectrum those of schedules reach."""

NUM_LENGTHS = 2
"""Numbers of steps of the minimax schedules of a degree."""

MOST_LOWER = 0.5
MOST_WIDE_STEPS = 2
WIDE_STEP_COST = 2
"""A step in the next wider dtype counts as so many: half of the elements fit into a register."""


class Target(NamedTuple):
    """What a schedule must do.

    Attributes:
        share: of the singular values that it resolves.
        tolerance: a singular value is resolved if it ends at most this far from one.
        dtype: of the iteration.
    """

    share: float
    tolerance: float
    dtype: torch.dtype

    def check(self) -> None:
        """Raise RangeError unless some schedule could meet the target."""
        if not 0 < self.share <= 1:
            raise RangeError(f"--share is {self.share}; expected a number in (0, 1]")
        least = 2 * ROUNDINGS * torch.finfo(self.dtype).eps
        if not least <= self.tolerance < 1:
            raise RangeError(
                f"--tolerance is {self.tolerance}; expected a number in [{least:.2g}, 1), which "
                f"leaves room for rounding in {format_dtype(self.dtype)}"
            )


class ScheduleOption(NamedTuple):
    """A schedule that could be chosen.

    Attributes:
        schedule: of the iteration.
        code: the Python expression for it, with names of `memsolve_kernels.matrix_sign`.
        cost: flops of the signs of all matrices, a wide step counted `WIDE_STEP_COST` times.
    """

    schedule: Schedule
    code: str
    cost: float


def format_dtype(dtype: torch.dtype) -> str:
    """The name of a dtype, without torch's."""
    return str(dtype).removeprefix("torch.")


def flops(schedule: Schedule, sizes: Sequence[tuple[int, int]]) -> float:
    """Flops of a schedule by plain products, for matrices of smaller and larger sides (m, n).

    A cubic step takes `4 m^2 n`, a quintic one `2 m^3` more.
    """
    cost = 0.0
    for step, polynomial in enumerate(schedule.polynomials):
        weight = WIDE_STEP_COST if step < schedule.wide_steps else 1
        cost += weight * sum(4 * m**2 * n + (2 * m**3 if polynomial.c else 0) for m, n in sizes)
    return cost


def resolves(schedule: Schedule, values: Floats, tolerance: float) -> NDArray[np.bool_]:
    """Which relative singular values end within the tolerance of one, in exact arithmetic."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.abs(schedule(values) - 1) <= tolerance


def resolved_share(schedule: Schedule, values: Floats, tolerance: float) -> float:
    """The share of relative singular values that a schedule resolves; NaN of none."""
    return float(resolves(schedule, values, tolerance).mean()) if len(values) else math.nan


def default_share(spectra: Sequence[Spectrum], target: Target) -> float:
    """The share that the default schedule of `matrix_sign` resolves, which each matrix has its own.

    It depends on the stored dtype, on the target's and on the rank.
    """
    resolved = [
        resolves(default_schedule(spectrum, target.dtype), spectrum.values, target.tolerance)
        for spectrum in spectra
    ]
    return float(np.concatenate(resolved).mean())


def default_schedule(spectrum: Spectrum, dtype: torch.dtype) -> Schedule:
    """The default schedule of `matrix_sign` for a matrix, where it iterates."""
    matrix = spectrum.matrix
    return Settings(matrix.dtype, dtype).schedule_for(matrix.rank)


def schedule_options(
    values: Floats, sizes: Sequence[tuple[int, int]], target: Target
) -> list[ScheduleOption]:
    """Schedules that meet the target in exact arithmetic, cheapest first.

    They are minimax schedules of degree 3 and 5, of as few steps as possible and of one more, with
    none to two steps in a wider dtype; and the beginnings of the stock schedules.
    """
    options = [
        ScheduleOption(wide, _code_of_wide(code, wide.wide_steps), flops(wide, sizes))
        for schedule, code in _minimax(values, target)
        for wide in _with_wide_steps(schedule, target.dtype)
    ]
    options += [
        ScheduleOption(schedule, code, flops(schedule, sizes))
        for schedule, code in _stock(values, target)
    ]
    meeting = [
        each
        for each in options
        if resolved_share(each.schedule, values, target.tolerance) >= target.share
    ]
    return sorted(meeting, key=lambda each: (each.cost, each.schedule.lower))


def _minimax(values: Floats, target: Target) -> Iterator[tuple[Schedule, str]]:
    """For each degree and number of steps the schedule of the smallest bound, with its code."""
    unresolved = math.floor(round((1 - target.share) * len(values), 6))
    bound = float(values[unresolved])
    error = _round_down(target.tolerance - ROUNDINGS * torch.finfo(target.dtype).eps)
    for degree in (5, 3):
        by_steps: dict[int, tuple[Schedule, str]] = {}
        for eighth in range(8 * OCTAVES + 1):
            lower = _round_down(min(bound * 2 ** (-eighth / 8), MOST_LOWER))
            steps = len(schedule := minimax(lower, error, degree=degree))
            if len(by_steps) == NUM_LENGTHS and steps not in by_steps:
                break
            suffix = "" if degree == 5 else ", degree=3"
            code = f"minimax({lower:g}, {error:g}{suffix}).take({steps})"
            by_steps[steps] = schedule.take(steps), code
        yield from by_steps.values()


def _stock(values: Floats, target: Target) -> Iterator[tuple[Schedule, str]]:
    """The shortest beginning of each stock schedule that meets the target, with its code."""
    for name, schedule in STOCK.items():
        for steps in range(1, len(schedule)):
            first = schedule.take(steps)
            if resolved_share(first, values, target.tolerance) >= target.share:
                yield first, f'STOCK["{name}"].take({steps})'
                break
        else:
            yield schedule, f'"{name}"'


def _with_wide_steps(schedule: Schedule, dtype: torch.dtype) -> list[Schedule]:
    """The schedule with none to two steps in a wider dtype, which float64 has not."""
    most = 0 if dtype == torch.float64 else min(MOST_WIDE_STEPS, len(schedule))
    return [replace(schedule, wide_steps=steps) for steps in range(most + 1)]


def _code_of_wide(code: str, wide_steps: int) -> str:
    """The code of a schedule with wide steps."""
    return f"replace({code}, wide_steps={wide_steps})" if wide_steps else code


def _round_down(value: float) -> float:
    """Two significant digits of a positive number, which is at least the result."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit * (1 + 1e-12)) * unit:.2g}")
