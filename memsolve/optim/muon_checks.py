"""What Muon accepts: hyperparameters, parameters and gradients, or an error that names them."""

import math
from numbers import Real
from typing import Any, Literal, get_args

import torch
from memsolve_kernels.arguments import parse_int
from memsolve_kernels.errors import DtypeError, NonFiniteError, RangeError, ShapeError
from memsolve_kernels.matrix_sign import check_settings
from memsolve_kernels.modes import is_readable
from torch import Tensor

from memsolve.optim.names import name_of

AdjustLr = Literal["original", "match_rms_adamw"]
Group = dict[str, Any]

COUNTS = {"batch_dims": 0, "heads": 1}
"""Hyperparameters that are whole numbers, with the least of each, which is the default too."""


def check_hyperparameters(group: Group) -> None:
    """Raise unless a step can be made by these; reads no value from a GPU."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        shape = tuple(lr.shape)
        raise ShapeError(f"lr is a tensor of shape {shape}; expected a number or a tensor of one")
    if not isinstance(lr, Tensor) or is_readable(lr):
        _check_range("lr", lr, math.inf)
    _check_range("weight_decay", group["weight_decay"], math.inf)
    _check_range("momentum", group["momentum"], 1.0)
    _check_range("relative_damping", group["relative_damping"], math.inf)
    if group["adjust_lr_fn"] not in (None, *get_args(AdjustLr)):
        raise RangeError(
            f"adjust_lr_fn is {group['adjust_lr_fn']!r}; expected None or one of "
            f"{get_args(AdjustLr)}"
        )
    for name in ("nesterov", "maximize", "foreach"):
        values = (True, False, None) if name == "foreach" else (True, False)
        if not any(group[name] is value for value in values):
            raise RangeError(f"{name} is {group[name]!r}; expected one of {values}")
    for name, least in COUNTS.items():
        parse_int(name, group[name], least)
    names = "damping", "schedule", "dtype", "precision", "backend"
    check_settings(*(group[name] for name in names))
    if group["relative_damping"] and group["damping"]:
        raise RangeError(
            f"damping is {group['damping']} and relative_damping {group['relative_damping']}; "
            "expected one of them"
        )
    rounding = group["gradient_dtype"]
    if rounding is not None and not (
        isinstance(rounding, torch.dtype) and rounding.is_floating_point
    ):
        raise DtypeError(f"gradient_dtype is {rounding!r}; expected a floating dtype or None")


def check_parameters(group: Group) -> None:
    """Raise unless each parameter of a group holds matrices."""
    for at, param in enumerate(group["params"]):
        _check_parameter(name_of(group, at), param, group)


def check_gradients(group: Group) -> None:
    """Raise unless the gradients of a group can be stepped on; reads values on a CPU only."""
    rounding = group["gradient_dtype"]
    for at, param in enumerate(group["params"]):
        gradient = param.grad
        if gradient is None:
            continue
        if gradient.layout is not torch.strided:
            raise DtypeError(
                f"the gradient of {name_of(group, at)} has layout {gradient.layout}; expected a "
                "dense one (torch.strided)"
            )
        if not is_readable(gradient):
            continue
        if not gradient.isfinite().all():
            raise NonFiniteError(
                f"the gradient of {name_of(group, at)} contains NaN or infinity; expected finite "
                "entries"
            )
        if rounding is not None and not gradient.to(rounding).isfinite().all():
            raise NonFiniteError(
                f"the gradient of {name_of(group, at)} contains infinity once it is rounded to "
                f"gradient_dtype={rounding}; scale the loss down, or take a dtype of wider range"
            )


def _check_parameter(name: str, param: Tensor, group: Group) -> None:
    shape, batch_dims, heads = tuple(param.shape), group["batch_dims"], group["heads"]
    matrix = shape[batch_dims:]
    if len(matrix) < 2:
        batch = f" after batch_dims={batch_dims} dimensions of a batch" if batch_dims else ""
        raise ShapeError(
            f"{name} has shape {shape}; Muon takes matrices of two dimensions or more{batch}. "
            "Give vectors, such as biases, to another optimizer"
        )
    if len(matrix) > 2 and math.prod(matrix) == max(matrix):
        raise ShapeError(
            f"{name} has shape {shape}, which is a vector; Muon takes matrices. Give scales and "
            "other vectors to another optimizer"
        )
    if matrix[0] % heads:
        raise ShapeError(f"{name} has shape {shape}; heads={heads} does not divide its rows")
    if not param.is_floating_point():
        raise DtypeError(f"{name} has dtype {param.dtype}; expected a real floating one")
    if group["relative_damping"] and hasattr(param, "device_mesh"):
        raise DtypeError(
            f"{name} is a DTensor, whose largest singular value is not read for relative_damping; "
            "give damping, or keep the matrix whole on every rank"
        )


def _check_range(name: str, value: Any, high: float) -> None:
    is_number = isinstance(value, Real | Tensor)
    if not (is_number and 0 <= value < high):
        raise RangeError(f"{name} is {value}; expected a number in [0, {high})")
