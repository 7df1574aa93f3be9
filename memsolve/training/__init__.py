"""Training of one weight, step by step: the trainer, one step, and learning-rate schedules."""

from memsolve.training.schedules import (
    HORIZON_FREE,
    OWN_SCHEDULES,
    SCHEDULES,
    Schedule,
    lr_of_step,
    mean_factor,
    schedule_factor,
)
from memsolve.training.step import GroupLrs, take_step
from memsolve.training.trainer import (
    Builder,
    OptimizerRequirements,
    Parameters,
    State,
    Trainer,
    step_from_zero,
)

__all__ = [
    "HORIZON_FREE",
    "OWN_SCHEDULES",
    "SCHEDULES",
    "Builder",
    "GroupLrs",
    "OptimizerRequirements",
    "Parameters",
    "Schedule",
    "State",
    "Trainer",
    "lr_of_step",
    "mean_factor",
    "schedule_factor",
    "step_from_zero",
    "take_step",
]
