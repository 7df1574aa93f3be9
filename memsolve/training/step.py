"""One step of any optimizer: its learning rate, its modes, and a closure if it takes one."""

import inspect
import warnings
from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer

from memsolve.faults import StepError
from memsolve.optim import NoProgressWarning


def take_step(optimizer: Optimizer, closure: Callable[[], Tensor], lr: float | None) -> float:
    """Take one step, and return the loss before it.

    Args:
        optimizer: takes the step. If it has `train` and `eval` modes, it is in `train` for the
            step and in `eval` afterwards.
        closure: sets the gradients at the current parameters and returns the loss, a scalar. It is
            called once before the step, and passed to an optimizer whose `step` takes a closure.
        lr: learning rate of every group; None keeps the optimizer's own.

    Raises:
        StepError: the optimizer has no learning rate.
        BaseException: whatever the optimizer raises.
    """
    if lr is not None:
        _set_lr(optimizer, lr)
    takes_closure = "closure" in inspect.signature(optimizer.step).parameters
    _set_mode(optimizer, "train")
    loss = float(closure().detach())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoProgressWarning)  # the results show it
        optimizer.step(*([closure] if takes_closure else []))  # type: ignore[arg-type]
    _set_mode(optimizer, "eval")
    return loss


def _set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise StepError("it has no `lr` in its param_groups, so its learning rate is fixed")
        group["lr"] = lr


def _set_mode(optimizer: Optimizer, mode: str) -> None:
    """Switch to a mode; torch's own optimizers have none."""
    switch = getattr(optimizer, mode, None)
    try:
        if callable(switch):
            switch()
    except AttributeError as error:
        if f"attribute {mode!r}" not in str(error):  # a wrapper of an optimizer without modes
            raise
