"""What an optimizer requires of a training step, inferred from the errors of a trial run.

No optimizer declares its requirements. A trial run on a tiny memory starts without any; where it
fails, the error shows what is missing, and the run is repeated with that.
"""

import functools
import re
from dataclasses import replace

import torch

from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory
from memsolve.seeds import seeded
from memsolve.training import Builder, OptimizerRequirements, Trainer

TRIAL_STEPS = 3
"""Some optimizers take no first step, and fail in the next."""

GRAPH_ERROR = "require grad|grad_fn|create_graph"
FLOAT32_ERROR = "(?i:double|float64|float32|dtype)"


@functools.lru_cache(maxsize=1024)
def infer_requirements(
    builder: Builder, device: torch.device, dtype: torch.dtype
) -> OptimizerRequirements:
    """The requirements under which an optimizer takes its first steps.

    If it fails whatever it is provided with, the last requirements that were tried.

    Raises:
        MachineError: the machine failed meanwhile.
    """
    requirements = OptimizerRequirements()
    while (error := _trial_error(builder, requirements, device, dtype)) is not None:
        extended = extend_requirements(requirements, error)
        if extended == requirements:
            break
        requirements = extended
    return requirements


def extend_requirements(
    requirements: OptimizerRequirements, error: Exception
) -> OptimizerRequirements:
    """The requirements with the one that an error points to; the same if it points to none."""
    message = str(error)
    if not requirements.needs_graph and re.search(GRAPH_ERROR, message):
        return replace(requirements, needs_graph=True)
    if not requirements.needs_float32 and re.search(FLOAT32_ERROR, message):
        return replace(requirements, needs_float32=True)
    return requirements


def tiny_objective(device: str | torch.device, dtype: torch.dtype) -> Objective:
    """The loss of a memory so small that steps on it cost nothing."""
    memory = AssociativeMemory(8, 4, 2.0, seed=0, device=device, dtype=dtype)
    return Objective(memory, memory.population())


def _trial_error(
    builder: Builder,
    requirements: OptimizerRequirements,
    device: torch.device,
    dtype: torch.dtype,
) -> StepError | None:
    """Why an optimizer cannot take its first steps; None if it can."""
    objective = tiny_objective(device, dtype)
    try:
        with seeded(device, 0):
            trainer = Trainer(objective, builder, requirements)
            for _ in range(TRIAL_STEPS):
                if trainer.step(objective.batch) is None:
                    break
    except StepError as error:
        return error
    return None
