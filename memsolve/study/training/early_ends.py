"""Runs that ended before their last step."""

from collections.abc import Sequence
from typing import Literal

from memsolve.study.training.trajectory import Trajectory

Ending = Literal["diverged", "failed"]

EarlyEnds = dict[Ending, list[int]]
"""For each way to end early, the number of steps of every run that ended so, increasing."""


def early_ends(trajectories: Sequence[Trajectory]) -> EarlyEnds:
    """The early ends among runs; empty if there are none."""
    steps: EarlyEnds = {
        "diverged": sorted(len(run.recovered) for run in trajectories if run.diverged),
        "failed": sorted(len(run.recovered) for run in trajectories if run.failed),
    }
    return {ending: ends for ending, ends in steps.items() if ends}


def format_early_ends(ends: EarlyEnds, seeds: int) -> str:
    """`diverged after step 3 (1 of 3 seeds)`; empty if no run ended early."""
    return ", ".join(
        f"{ending} after step {', '.join(map(str, sorted(set(steps))))} "
        f"({len(steps)} of {seeds} seeds)"
        for ending, steps in ends.items()
    )
