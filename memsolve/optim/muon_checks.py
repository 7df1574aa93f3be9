"""Checks of Muon's hyperparameters, parameters and gradients, and of those of its AdamW."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from memsolve_kernels.arguments import parse_int
from memsolve_kernels.errors import (
    DtypeError,
    InputError,
    NonFiniteError,
    RangeError,
    ShapeError,
)
from memsolve_kernels.matrix_sign import check_settings
from memsolve_kernels.modes import is_readable
from torch import Tensor
from torch.distributed import ProcessGroup

from memsolve.optim.muon_layout import layout_error, local_part
from memsolve.optim.shared import check_dense, check_finite, check_range, parameter_name

AdjustLr = Literal["original", "match_rms_adamw"]
DampingNorm = Literal["spectral", "frobenius"]
Group = dict[str, Any]

COUNTS = {"batch_dims": 0, "heads": 1}
"""Integer hyperparameters, with the minimum of each, which is also the default."""

DTYPES = torch.float64, torch.float32, torch.float16, torch.bfloat16
"""Dtypes of matrices whose sign is computed."""

ROUNDED_TO = "gradient_dtype", "momentum_dtype"
"""Hyperparameters that are dtypes, which gradients are rounded to."""

SIGN_SETTINGS = "damping", "schedule", "dtype", "precision", "backend"
"""Hyperparameters that are arguments of `matrix_sign`."""


def check_group(group: Group) -> None:
    """Check a new group, and convert its counts to int.

    Raises:
        InputError: a hyperparameter or a parameter that cannot be used.
    """
    _check_hyperparameters(group)
    if group["use_muon"]:
        check_settings(*(group[name] for name in SIGN_SETTINGS))
    _check_parameters(group)


def check_process_group(group: Any) -> None:
    """Raise DtypeError unless a value is None or a process group that this rank belongs to."""
    if group is not None and not isinstance(group, ProcessGroup):
        raise DtypeError(
            f"process_group is {group!r}; expected None or a torch.distributed process group of "
            "this rank, such as torch.distributed.group.WORLD"
        )


def check_step(groups: list[Group]) -> None:
    """Check before a step; hyperparameters and gradients may have changed since the last one.

    No value is read from a GPU.

    Raises:
        InputError: a hyperparameter, parameter or gradient that cannot be used.
    """
    for group in groups:
        _check_hyperparameters(group)
        _check_parameters(group)
        _check_gradients(group)


def check_placements(groups: list[Group], state: Mapping[Tensor, dict[str, Any]]) -> None:
    """Raise DtypeError unless the state of every parameter is placed like the parameter."""
    for group in groups:
        for index, param in enumerate(group["params"]):
            for name, value in state.get(param, {}).items():
                if name != "step":
                    _check_state_placement(value, param, group, index)


def _check_state_placement(value: Tensor, param: Tensor, group: Group, index: int) -> None:
    placements = [getattr(each, "placements", "on every rank") for each in (param, value)]
    if placements[0] != placements[1]:
        raise DtypeError(
            f"{parameter_name(group, index)} lies {placements[0]}, and its state {placements[1]}; "
            "expected the same. Load a state by set_optimizer_state_dict of "
            "torch.distributed.checkpoint.state_dict"
        )


def _check_hyperparameters(group: Group) -> None:
    """Raise unless hyperparameters are valid; those of `matrix_sign` are checked where it runs."""
    if group["use_muon"] is ("betas" in group):
        raise RangeError(
            f"use_muon of a group has become {group['use_muon']}; expected what it was when the "
            "group was added. Make another optimizer, or add a group of other parameters"
        )
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        shape = tuple(lr.shape)
        raise ShapeError(f"lr is a tensor of shape {shape}; expected a number or a tensor of one")
    if not isinstance(lr, Tensor) or is_readable(lr):
        check_range("lr", lr, math.inf)
    check_range("weight_decay", group["weight_decay"], math.inf)
    _check_one_of("maximize", group["maximize"], (True, False))
    _check_one_of("kahan_sum", group["kahan_sum"], (True, False))
    _check_one_of("foreach", group["foreach"], (True, False, None))
    if group["use_muon"]:
        _check_hyperparameters_of_muon(group)
    else:
        _check_hyperparameters_of_adamw(group)


def _check_hyperparameters_of_adamw(group: Group) -> None:
    betas = group["betas"]
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise RangeError(f"betas is {betas!r}; expected two numbers in [0, 1)")
    for beta in betas:
        check_range("one of betas", beta, 1.0)
    check_range("eps", group["eps"], math.inf)
    _check_one_of("capturable", group["capturable"], (True, False))


def _check_hyperparameters_of_muon(group: Group) -> None:
    check_range("momentum", group["momentum"], 1.0)
    check_range("relative_damping", group["relative_damping"], math.inf)
    _check_one_of("nesterov", group["nesterov"], (True, False))
    _check_one_of("adjust_lr_fn", group["adjust_lr_fn"], (None, *get_args(AdjustLr)))
    _check_one_of("damping_norm", group["damping_norm"], get_args(DampingNorm))
    for name, minimum in COUNTS.items():
        if type(group[name]) is not int or group[name] < minimum:
            group[name] = parse_int(name, group[name], minimum)
    if group["relative_damping"] and group["damping"]:
        raise RangeError(
            f"damping is {group['damping']} and relative_damping {group['relative_damping']}; "
            "expected one of them"
        )
    for name in ROUNDED_TO:
        dtype = group[name]
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise DtypeError(f"{name} is {dtype!r}; expected a floating dtype or None")
    if (dtype := group["momentum_dtype"]) is not None and dtype not in DTYPES:
        names = ", ".join(map(str, DTYPES))
        raise DtypeError(f"momentum_dtype is {dtype}; expected one of {names}, or None")


def _check_one_of(name: str, value: Any, values: Sequence[Any]) -> None:
    """Raise RangeError unless a value is one of some; True is not 1."""
    if not any(type(value) is type(each) and value == each for each in values):
        raise RangeError(f"{name} is {value!r}; expected one of {tuple(values)}")


def _check_parameters(group: Group) -> None:
    """Raise unless each parameter of a group holds matrices."""
    for index, param in enumerate(group["params"]):
        _check_parameter(param, group, index)


def _check_gradients(group: Group) -> None:
    """Raise unless all gradients of a group are dense and finite; reads values on a CPU only."""
    dtypes = {name: group[name] for name in ROUNDED_TO if group.get(name) is not None}
    for index, param in enumerate(group["params"]):
        if param.grad is None:
            continue
        _check_placement(param, group, index)
        gradient = local_part(param.grad)
        check_dense(gradient, group, index)
        if not is_readable(gradient):
            continue
        check_finite(gradient, group, index)
        for name, dtype in dtypes.items():
            if not gradient.to(dtype).isfinite().all():
                raise NonFiniteError(
                    f"the gradient of {parameter_name(group, index)} contains infinity once it is "
                    f"rounded to {name}={dtype}; scale the loss down, or choose a dtype of wider "
                    "range"
                )


def _check_placement(param: Tensor, group: Group, index: int) -> None:
    """Raise unless the gradient of a DTensor is one on its mesh, and that of a tensor is none."""
    mesh, other = (getattr(each, "device_mesh", None) for each in (param, param.grad))
    if mesh != other:
        raise DtypeError(
            f"{parameter_name(group, index)} lies on {mesh or 'no mesh'}, and its gradient on "
            f"{other or 'no mesh'}; expected one mesh for both"
        )


def _check_parameter(param: Tensor, group: Group, index: int) -> None:
    error = _parameter_error(param, group)
    if error is not None:
        raise type(error)(f"{parameter_name(group, index)} {error}")


def _parameter_error(param: Tensor, group: Group) -> InputError | None:
    """Why a parameter cannot be used, as a sentence without its subject; None if it can."""
    if (error := layout_error(param)) is not None:
        return DtypeError(error)
    if not param.is_floating_point():
        return DtypeError(f"has dtype {param.dtype}; expected a real floating one")
    return _shape_error(tuple(param.shape), group) if group["use_muon"] else None


def holds_matrices(shape: Sequence[int]) -> bool:
    """Whether a parameter is a matrix once its last dimensions are flattened to columns."""
    return len(shape) == 2 or (len(shape) > 2 and math.prod(shape) != max(shape))


def _shape_error(shape: tuple[int, ...], group: Group) -> ShapeError | None:
    batch_dims, heads = group["batch_dims"], group["heads"]
    matrix = shape[batch_dims:]
    if len(matrix) < 2:
        batch = f" after batch_dims={batch_dims} batch dimensions" if batch_dims else ""
        return ShapeError(
            f"has shape {shape}; Muon takes matrices of two dimensions or more{batch}. Put "
            "vectors, such as biases, into a group with use_muon=False"
        )
    if not holds_matrices(matrix):
        return ShapeError(
            f"has shape {shape}, which is a vector; Muon takes matrices. Put scales and "
            "other vectors into a group with use_muon=False"
        )
    if matrix[0] % heads:
        return ShapeError(f"has shape {shape}; heads={heads} does not divide its rows")
    return None
