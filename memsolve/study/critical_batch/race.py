"""A race: one run that ends as soon as it has reached a target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple, Self

import torch
from memsolve_kernels.errors import RangeError

from memsolve import theory
from memsolve.engine import option
from memsolve.faults import StepError
from memsolve.problem import AssociativeMemory
from memsolve.study.critical_batch.noise import noise_scale, two_batch_noise_scale
from memsolve.study.training.grid import TrainingGrid, Trial, check_horizon_free
from memsolve.study.training.trajectory import walk
from memsolve.training import Builder, Schedule

SMALL, BIG, PAIRS = 16, 1 << 14, 32
"""Batches of the two-batch estimate of the noise scale."""


class Target(NamedTuple):
    """What ends a race.

    Attributes:
        kind: "recovered", so many items; "limit", so large a share of what `d` can hold
            (`theory.limit`); or "loss", of the population.
        value: how many, what share, or the loss.
    """

    kind: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target of a text such as `recovered=20`.

        Raises:
            RangeError: another kind, or no number.
        """
        kind, _, number = str(text).partition("=")
        try:
            found = cls(kind, float(number))
        except ValueError:
            found = cls(kind, math.nan)
        if kind not in ("recovered", "limit", "loss") or math.isnan(found.value):
            raise RangeError(
                f"target is {text!r}; expected recovered=ITEMS, limit=SHARE of d^2 / (2 ln N), "
                "or loss=NATS"
            )
        return found

    def at(self, alpha: float, dim: int, num_items: int) -> float:
        """The number to reach in one memory: of items, or of the loss.

        Raises:
            RangeError: one that is there from the start, or that no weight reaches.
        """
        if self.kind == "loss":
            start, least = math.log(num_items), theory.least_loss(alpha, dim, num_items)
            if not least < self.value < start:
                raise RangeError(
                    f"target is loss={self.value:g}; expected more than {least:.3g}, which no "
                    f"weight goes below at alpha = {alpha:g} and d = {dim} (memsolve.theory), and "
                    f"less than the loss of W = 0, log N = {start:.3f}"
                )
            return self.value
        share = self.kind == "limit"
        items = self.value * theory.limit(dim, num_items) if share else self.value
        most = min(num_items, dim**2)
        if not (0 < items <= most and (share or items == int(items))):
            raise RangeError(
                f"target is {self.kind}={self.value:g}, {items:g} items at d = {dim}; expected a "
                f"whole number from 1 to {most}, which is N or the limit d^2 of what any weight "
                "stores, or a share above 0 that is no more"
            )
        return math.ceil(items)


@dataclass(frozen=True)
class RaceGrid(TrainingGrid):
    """A grid of races.

    Args:
        schedules: constant or inverse; the others depend on the number of steps, which is what a
            race asks for.
        target: `recovered=20` items, `limit=0.5` of `d^2 / (2 ln N)`, or `loss=2.5`, of the
            population; refused where no weight reaches it.

    Other arguments are those of `TrainingGrid`; `steps` is where a race is given up. Batch sizes
    are powers of 4 up to `d^(alpha + 1/2)`, where Muon's first step saturates, by default.
    """

    schedules: Sequence[Schedule] = option(
        ("constant",),
        "--schedules",
        str,
        "How the step size falls: constant, inverse.",
        in_cells=True,
    )
    target: str = option(
        "limit=0.5",
        "--target",
        str,
        "What ends a run: recovered=ITEMS, limit=SHARE of d^2 / (2 ln N), or loss=NATS.",
        many=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_horizon_free(self.schedules)
        target = Target.parse(self.target)
        for alpha, dim in product(self.alphas, self.dims):
            target.at(alpha, dim, self.items_of(dim))

    def batch_sizes_of(self, alpha: float, dim: int) -> list[int]:
        """Batch sizes, increasing: every other power of two by default."""
        if self.batch_sizes is not None:
            return list(self.batch_sizes)
        return super().batch_sizes_of(alpha, dim)[::2]


@dataclass(frozen=True)
class Race:
    """What a race has come to.

    Attributes:
        steps: the first step after which the target was reached; None if none was.
        recovered: items recovered of all after each step, up to the target.
        loss: of the population after each step, where the target is a loss.
        noise_at_zero, noise_at_target: exact noise scale at `W = 0` and at the weight that reached
            the target, of a race with the population gradient; None otherwise.
        noise_of_batches: the two-batch estimate of the latter.
        failed: why a step failed, which ended the race; empty if none did.
    """

    steps: int | None
    recovered: list[int]
    loss: list[float]
    noise_at_zero: float | None = None
    noise_at_target: float | None = None
    noise_of_batches: float | None = None
    failed: str = ""

    @property
    def distance(self) -> float:
        """How far it has been from its target in the end; infinite where its first step diverged.

        To compare races to one target: a loss, or minus the items recovered.
        """
        if self.loss:
            return self.loss[-1]
        return -self.recovered[-1] if self.recovered else math.inf


def race(grid: RaceGrid, memory: AssociativeMemory, build: Builder, cell: Trial) -> Race:
    """Run until the target is reached, or to the end of the grid's steps."""
    target = Target.parse(grid.target)
    goal = target.at(memory.alpha, memory.dim, memory.num_items)
    population = memory.population()
    found = Race(None, [], [])
    try:
        for state, recall in walk(grid, memory, build, cell):
            found.recovered.append(recall.count)
            if target.kind == "loss":
                found.loss.append(float(memory.loss(state.weight, population)))
                reached = found.loss[-1] <= goal
            else:
                reached = recall.count >= goal
            if reached:
                found = replace(found, steps=state.step)
                return found if cell.batch_size else noisy(found, memory, state.weight, cell.seed)
    except StepError as error:
        found = replace(found, failed=str(error))
    return found


def noisy(found: Race, memory: AssociativeMemory, weight: torch.Tensor, seed: int) -> Race:
    """A race with the noise scales where it started and ended."""
    generator = torch.Generator().manual_seed(seed)
    estimate = two_batch_noise_scale(
        memory, weight, small=SMALL, big=BIG, pairs=PAIRS, generator=generator
    )
    return replace(
        found,
        noise_at_zero=noise_scale(memory, torch.zeros_like(weight)),
        noise_at_target=noise_scale(memory, weight),
        noise_of_batches=estimate.value,
    )
