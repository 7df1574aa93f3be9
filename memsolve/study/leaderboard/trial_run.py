"""The run of a trial: its steps, with the recall after powers of two and the loss at the end."""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from memsolve.faults import StepError, attribute_errors
from memsolve.frequencies import Batch
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory
from memsolve.study.leaderboard.grid import LeaderboardTrial
from memsolve.study.leaderboard.loss import loss_items, population_loss
from memsolve.study.leaderboard.momentum import MomentumBuilder
from memsolve.study.leaderboard.tracks import marks_of
from memsolve.study.training.trajectory import batch_of_step
from memsolve.training import Builder, Trainer, lr_of_step

WAITING = 0.1
"""Share of the time of its steps that a run may wait for a core; else they are not timed."""


@dataclass(frozen=True)
class LeaderboardRun:
    """The outcome of a run.

    Attributes:
        marks: steps after which the items were counted, of `tracks.marks_of`, up to the end.
        curve: items recovered, of all `N`, after each of them.
        loss: population loss after the last step, in nats; None if the run ended early, or the
            loss is not finite.
        diverged: whether the weight became too large for finite logits, or that loss is not below
            `ln N`, the loss of `W = 0`.
        failed: why a step failed, which ended the run; empty if none did.
        seconds: of all steps with their gradients; None if the run ended early, or was not alone:
            other cells ran beside it, or it waited for a core (`WAITING`).
        core_seconds: processor time, with all evaluations.
        state: numbers in the optimizer's state per number in the weight; None without a state.
    """

    marks: list[int]
    curve: list[int]
    loss: float | None = None
    diverged: bool = False
    failed: str = ""
    seconds: float | None = None
    core_seconds: float = 0.0
    state: float | None = None

    @property
    def recovered(self) -> int:
        """Items recovered after the last step; 0 without a loss."""
        return 0 if self.loss is None else self.curve[-1]


Runs = Mapping[LeaderboardTrial, LeaderboardRun]


@dataclass
class RunContext:
    """A memory, with the batches and the items of the loss that its runs share.

    Attributes:
        memory: of the runs.
    """

    memory: AssociativeMemory
    _population: Batch = field(init=False)
    _loss_items: Batch = field(init=False)
    _batches: dict[tuple[int, int], Batch] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._population = self.memory.population()
        self._loss_items = loss_items(self.memory)

    def batch(self, trial: LeaderboardTrial, step: int) -> Batch:
        """The batch of a step, the same for every optimizer."""
        if trial.batch_size is None:
            return self._population
        key = trial.batch_size, step
        if key not in self._batches:
            self._batches[key] = batch_of_step(self.memory, trial, step)
        return self._batches[key]

    def loss(self, weight: Tensor) -> float:
        """The population loss of a weight (d, d)."""
        return population_loss(self.memory, weight, self._loss_items)


def run_trial(context: RunContext, build: Builder, trial: LeaderboardTrial) -> LeaderboardRun:
    """Run a trial from `W = 0`."""
    start = time.process_time()
    run = LeaderboardRun([], [])
    try:
        run = _run(context, MomentumBuilder(build, trial.momentum), trial, run)
    except StepError as error:
        run = replace(run, failed=str(error))
    return replace(run, core_seconds=time.process_time() - start)


def _run(
    context: RunContext, build: Builder, trial: LeaderboardTrial, run: LeaderboardRun
) -> LeaderboardRun:
    """The run, whose counts are appended to those of `run`, so that a failure leaves them.

    Raises:
        StepError: the optimizer cannot be made, or a step failed.
    """
    memory, marks = context.memory, set(marks_of(trial.steps))
    trainer = Trainer(Objective(memory, memory.population()), build)
    seconds, start, evaluation = 0.0, time.process_time(), 0.0
    for step in range(trial.steps):
        lr = lr_of_step(trial.schedule, trial.lr or 0.0, step, trial.steps, trial.ratio)
        state = trainer.step(context.batch(trial, step), lr)
        if state is None:
            return replace(run, diverged=True)
        seconds += state.seconds
        if state.step in marks:
            evaluation -= time.process_time()
            run.marks.append(state.step)
            run.curve.append(memory.recall(state.weight).count)
            evaluation += time.process_time()
    busy = time.process_time() - start - evaluation
    loss = context.loss(trainer.weight.detach().to(memory.dtype))
    return replace(
        run,
        loss=loss if math.isfinite(loss) else None,
        diverged=not loss < math.log(memory.num_items),
        seconds=seconds if busy >= (1 - WAITING) * seconds else None,
        state=state_numbers(trainer),
    )


def state_numbers(trainer: Trainer) -> float | None:
    """Numbers in an optimizer's state per number in the weight; None where it has no state."""
    with suppress(StepError), attribute_errors("its state cannot be counted"):
        state = getattr(trainer.optimizer, "state", None)
        return None if state is None else count_numbers(state) / trainer.weight.numel()
    return None


def count_numbers(state: object) -> int:
    """How many numbers the tensors of a state hold, however it nests them."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    if isinstance(state, Mapping):
        return sum(map(count_numbers, state.values()))
    if isinstance(state, Iterable) and not isinstance(state, str | bytes):
        return sum(map(count_numbers, state))
    return 0
