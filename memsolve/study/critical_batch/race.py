"""A race: a training run that ends at the first step that reaches a target."""

import math
from dataclasses import dataclass, replace

import torch

from memsolve.faults import StepError
from memsolve.problem import AssociativeMemory
from memsolve.study.critical_batch.grid import RaceGrid
from memsolve.study.critical_batch.noise import noise_scales, two_batch_noise_scale
from memsolve.study.critical_batch.target import Target
from memsolve.study.training.grid import Trial
from memsolve.study.training.trajectory import walk
from memsolve.training import Builder

SMALL, BIG, PAIRS = 16, 1 << 14, 32
"""Batches of the two-batch estimate of the noise scale."""


@dataclass(frozen=True)
class RaceResult:
    """The outcome of a race.

    Attributes:
        steps: the first step after which the target was reached; None if it was not.
        recovered: items recovered, of all `N`, after each step up to the target.
        loss: of the population after each step, if the target is a loss; else empty.
        noise_at_zero, noise_at_target: exact noise scale at `W = 0` and at the weight that reached
            the target, if the race was on the population gradient; else None.
        noise_of_batches: the two-batch estimate of `noise_at_target`.
        nuclear_at_zero, nuclear_at_target: likewise, in the nuclear norm.
        failed: why a step failed, which ended the race; empty if none did.
    """

    steps: int | None
    recovered: list[int]
    loss: list[float]
    noise_at_zero: float | None = None
    noise_at_target: float | None = None
    noise_of_batches: float | None = None
    nuclear_at_zero: float | None = None
    nuclear_at_target: float | None = None
    failed: str = ""

    @property
    def distance(self) -> float:
        """How far the race ended from its target; infinite if its first step diverged.

        The loss, or minus the items recovered: only comparable among races to the same target.
        """
        if self.loss:
            return self.loss[-1]
        return -self.recovered[-1] if self.recovered else math.inf


def race(grid: RaceGrid, memory: AssociativeMemory, build: Builder, cell: Trial) -> RaceResult:
    """Train until the target is reached, or to the end of the grid's steps."""
    target = Target.parse(grid.target)
    goal = target.at(memory.alpha, memory.dim, memory.num_items)
    population = memory.population()
    result = RaceResult(None, [], [])
    try:
        for state, recall in walk(memory, build, cell, grid.steps, grid.gradient):
            result.recovered.append(recall.count)
            if target.kind == "loss":
                result.loss.append(float(memory.loss(state.weight, population)))
                reached = result.loss[-1] <= goal
            else:
                reached = recall.count >= goal
            if reached:
                result = replace(result, steps=state.step)
                if cell.batch_size is None:
                    result = with_noise_scales(result, memory, state.weight, cell.seed)
                return result
    except StepError as error:
        result = replace(result, failed=str(error))
    return result


def with_noise_scales(
    result: RaceResult, memory: AssociativeMemory, weight: torch.Tensor, seed: int
) -> RaceResult:
    """Add the noise scales at the start and at the end of a race."""
    generator = torch.Generator().manual_seed(seed)
    estimate = two_batch_noise_scale(
        memory, weight, small=SMALL, big=BIG, pairs=PAIRS, generator=generator
    )
    at_zero, at_target = noise_scales(memory), noise_scales(memory, weight)
    return replace(
        result,
        noise_at_zero=at_zero.euclidean,
        noise_at_target=at_target.euclidean,
        noise_of_batches=estimate.value,
        nuclear_at_zero=at_zero.nuclear,
        nuclear_at_target=at_target.nuclear,
    )
