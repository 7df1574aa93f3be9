"""How an optimizer treats the learning rate of its parameter groups, inferred from first steps."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.optimizers.builder import ChoiceBuilder
from memsolve.optimizers.requirements import tiny_objective
from memsolve.seeds import seeded
from memsolve.training import Schedule, Trainer

STEPS = 12
"""First steps that are compared. A scheduler inside that waits longer is not noticed."""


class LrBehavior(NamedTuple):
    """How an optimizer treats learning rates.

    Attributes:
        remark: in a few words; empty if it steps by the learning rate that is set before the step.
        schedule: `own` if its steps follow from the `lr` that it is made with, `fixed` if no
            learning rate has an effect; None if it obeys.
    """

    remark: str = ""
    schedule: Schedule | None = None


OBEYS = LrBehavior()


class Trace(NamedTuple):
    """First steps of an optimizer.

    Attributes:
        weights: (d, d) after each step; fewer if it diverged.
        lrs: learning rates of the groups before the first step and after each.
    """

    weights: list[Tensor]
    lrs: list[list[float | None]]

    @property
    def keeps_lrs(self) -> bool:
        """Whether no step has changed a learning rate."""
        return all(later == self.lrs[0] for later in self.lrs)

    def moves_as(self, other: "Trace") -> bool:
        """Whether the weights are the same after all steps of the shorter trace."""
        pairs = zip(self.weights, other.weights, strict=False)
        return all(torch.equal(one, another) for one, another in pairs)


@functools.lru_cache(maxsize=1024)
def lr_behavior(build: ChoiceBuilder, device: str, dtype: torch.dtype) -> LrBehavior:
    """How an optimizer treats learning rates.

    One that takes no step, or whose steps raise, is taken to obey: there is nothing to compare.

    Raises:
        MachineError: the machine failed meanwhile.
    """
    objective = tiny_objective(device, dtype)
    try:
        own = _trace(objective, build, device)
        if not any(weight.any() for weight in own.weights) or _obeys(objective, build, device, own):
            return OBEYS
        lr = _other_lr(own)
        rebuilt = build.with_lr(lr)
        follows = rebuilt is not None and not own.moves_as(_trace(objective, rebuilt, device))
    except StepError:
        return OBEYS
    if not own.keeps_lrs:
        remark = "sets its own lr"
    else:
        remark = "keeps its first lr" if follows else "ignores lr"
    return LrBehavior(remark, "own" if follows else "fixed")


def _obeys(objective: Objective, build: ChoiceBuilder, device: str, own: Trace) -> bool:
    """Whether it keeps the learning rates of its groups, and steps by those that are set."""
    if not own.keeps_lrs or None in own.lrs[0]:
        return False
    lr = _other_lr(own)
    traces = (_trace(objective, build, device, lr, steps=steps) for steps in (1, STEPS))
    return not all(map(own.moves_as, traces))


def _other_lr(own: Trace) -> float:
    """A learning rate that no group has."""
    return 2 * max((lr for lr in own.lrs[0] if lr), default=0.5)


def _trace(
    objective: Objective,
    build: ChoiceBuilder,
    device: str,
    lr: float | None = None,
    *,
    steps: int = STEPS,
) -> Trace:
    """First steps with a learning rate that is set before each; None keeps the optimizer's own."""
    with seeded(device, 0):
        trainer = Trainer(objective, build)
        trace = Trace([], [trainer.lrs.current()])
        for _ in range(steps):
            state = trainer.step(objective.batch, lr)
            if state is None:
                break
            trace.weights.append(state.weight.clone())
            trace.lrs.append(trainer.lrs.current())
    return trace
