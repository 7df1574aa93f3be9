"""One step of any optimizer, from `W = 0`."""

from torch import Tensor

from memsolve.objective import Objective
from memsolve.stepper import Build, StepError
from memsolve.training import train


def step_from_zero(objective: Objective, build: Build) -> Tensor:
    """The weight (d, d) after one step from `W = 0` on the batch of an objective.

    Raises:
        StepError: the optimizer raised (its own error is the cause), or made NaN or infinity.
    """
    for state in train(objective, build, [objective.batch], [None]):
        return state.weight
    raise StepError("its step made NaN or infinity")
