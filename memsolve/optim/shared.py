"""What the optimizers share: the closure, and checks of settings and of a gradient's values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from memsolve_kernels.errors import DtypeError, NonFiniteError, RangeError
from torch import Tensor
from torch.optim import Optimizer

from memsolve.optim.muon_layout import is_dtensor


def evaluate(closure: Callable[[], float] | None) -> float | None:
    """The loss of a closure, evaluated with gradients; None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


@contextmanager
def new_group(optimizer: Optimizer) -> Iterator[dict[str, Any]]:
    """The group that was added last, to be checked; an error removes it again."""
    try:
        yield optimizer.param_groups[-1]
    except Exception:
        optimizer.param_groups.pop()
        raise


def check_complete(group: dict[str, Any]) -> None:
    """Raise DtypeError if a parameter of a group is sharded over ranks, as under FSDP."""
    for index, param in enumerate(group["params"]):
        if is_dtensor(param):
            raise DtypeError(
                f"{parameter_name(group, index)} is a DTensor; this optimizer takes parameters "
                "that each rank holds completely. Use Muon, which takes both"
            )


def check_dense(gradient: Tensor, group: dict[str, Any], index: int) -> None:
    """Raise DtypeError if the gradient of a parameter is sparse."""
    if gradient.layout is not torch.strided:
        raise DtypeError(
            f"the gradient of {parameter_name(group, index)} has layout {gradient.layout}; "
            "expected a dense one (torch.strided)"
        )


def check_finite(gradient: Tensor, group: dict[str, Any], index: int) -> None:
    """Raise NonFiniteError unless the gradient of a parameter is finite."""
    if not gradient.isfinite().all():
        raise NonFiniteError(
            f"the gradient of {parameter_name(group, index)} contains NaN or infinity; expected "
            "finite entries"
        )


def parameter_name(group: dict[str, Any], index: int) -> str:
    """A parameter of a group in an error: by its name, if the optimizer has named parameters."""
    names = group.get("param_names")
    return f"parameter {names[index]!r}" if names else "a parameter"


def check_range(name: str, value: Any, high: float) -> None:
    """Raise RangeError unless a setting is a number in [0, high)."""
    is_number = isinstance(value, Real | Tensor)
    if not (is_number and 0 <= value < high):
        raise RangeError(f"{name} is {value}; expected a number in [0, {high})")
