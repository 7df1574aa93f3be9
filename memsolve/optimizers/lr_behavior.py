"""How an optimizer treats the learning rate of its parameter groups, inferred from first steps."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.optimizers.builder import ChoiceBuilder
from memsolve.optimizers.requirements import tiny_objective
from memsolve.seeds import seeded
from memsolve.training import Schedule, Trainer

STEPS, SCHEDULED_STEPS = 12, 64
"""First steps that are compared, and those of an optimizer that holds a scheduler of torch. A
scheduler inside that waits longer is not noticed."""


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

    @property
    def moves(self) -> bool:
        """Whether any step has moved the weight."""
        return any(bool(weight.any()) for weight in self.weights)

    def moves_as(self, other: "Trace") -> bool:
        """Whether the weights are the same after all steps of the shorter trace."""
        pairs = zip(self.weights, other.weights, strict=False)
        return all(torch.equal(one, another) for one, another in pairs)


@functools.lru_cache(maxsize=1024)
def lr_behavior(build: ChoiceBuilder, device: str, dtype: torch.dtype) -> LrBehavior:
    """How an optimizer treats learning rates.

    One that takes no step, or whose steps raise, is taken to obey: there is nothing to compare. So
    is one whose steps are random, since another thread may draw from the same generator.

    Raises:
        MachineError: the machine failed meanwhile.
    """
    tracer = Tracer(tiny_objective(device, dtype), device)
    try:
        own = tracer.trace(build)
        lr = 2 * max((lr for lr in own.lrs[0] if lr), default=0.5)
        has_lrs = own.keeps_lrs and None not in own.lrs[0]
        if not own.moves or (has_lrs and tracer.is_other(own, build, lr)):
            return OBEYS
        rebuilt = build.with_lr(lr)
        follows = rebuilt is not None and tracer.is_other(own, rebuilt)
    except StepError:
        return OBEYS
    if not own.keeps_lrs:
        remark = "sets its own lr"
    else:
        remark = "keeps its first lr" if follows else "ignores lr"
    return LrBehavior(remark, "own" if follows else "fixed")


def steps_of(optimizer: Optimizer) -> int:
    """How many first steps of an optimizer show how it treats learning rates."""
    attributes = getattr(optimizer, "__dict__", {}).values()
    return SCHEDULED_STEPS if any(isinstance(a, LRScheduler) for a in attributes) else STEPS


def builder_of_run(
    build: ChoiceBuilder, schedule: Schedule | None, lr: float | None
) -> ChoiceBuilder:
    """The builder for a run on a schedule: `own` starts from the `lr` that it is made with."""
    if schedule != "own" or lr is None:
        return build
    return build.with_lr(lr) or build


@dataclass(frozen=True)
class Tracer:
    """Takes first steps.

    Attributes:
        objective: to step on.
        device: whose generators are seeded.
    """

    objective: Objective
    device: str

    def trace(
        self,
        build: ChoiceBuilder,
        lr: float | None = None,
        steps: int | None = None,
        seed: int = 0,
    ) -> Trace:
        """First steps at a learning rate that is set before each; None keeps the optimizer's."""
        with seeded(self.device, seed):
            trainer = Trainer(self.objective, build)
            trace = Trace([], [trainer.lrs.current()])
            for _ in range(steps or steps_of(trainer.optimizer)):
                state = trainer.step(self.objective.batch, lr)
                if state is None:
                    break
                trace.weights.append(state.weight.clone())
                trace.lrs.append(trainer.lrs.current())
        return trace

    def is_other(self, own: Trace, build: ChoiceBuilder, lr: float | None = None) -> bool:
        """Whether the steps of a builder at a learning rate differ from `own`, or are random."""
        if not own.moves_as(self.trace(build, lr, steps=1)):
            return True
        return not all(own.moves_as(self.trace(build, lr, seed=seed)) for seed in (0, 1))
