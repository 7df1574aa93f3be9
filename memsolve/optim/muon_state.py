"""The state of a parameter, and what a step reads of it: for Muon, and for its AdamW."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from memsolve.optim.kahan import WIDE, needs_compensation
from memsolve.optim.muon_checks import Group
from memsolve.optim.muon_layout import Layout, layout_of, local_part, redistribute_like

State = MutableMapping[Tensor, dict[str, Any]]
"""Of an optimizer: the state of each parameter, which is made when it is read."""


class MatrixTensors(NamedTuple):
    """What a step of Muon reads and changes of a parameter, of which this is the part on this rank.

    Attributes:
        param: the parameter.
        gradient: of its shape.
        mean: the running mean of the gradient, which is the gradient itself without momentum.
        compensation: of the parameter, for Kahan summation, or None.
        layout: what the ranks exchange to complete the matrices of the parameter.
    """

    param: Tensor
    gradient: Tensor
    mean: Tensor
    compensation: Tensor | None
    layout: Layout


class AdamWTensors(NamedTuple):
    """What a step of AdamW reads and changes of a parameter, of which this is the part here.

    Attributes:
        param: the parameter.
        gradient: of its shape.
        mean: the running mean of the gradient.
        square: the running mean of the squared gradient.
        step: the number of steps, a scalar.
        compensation: of the parameter, for Kahan summation, or None.
    """

    param: Tensor
    gradient: Tensor
    mean: Tensor
    square: Tensor
    step: Tensor
    compensation: Tensor | None


def matrix_tensors(
    param: Tensor, group: Group, state: State, process_group: ProcessGroup | None
) -> MatrixTensors:
    """What Muon reads of a parameter with a gradient; state that is missing is made."""
    gradient = redistribute_like(param.grad, param)
    mean = gradient
    if group["momentum"]:
        dtype = state_dtype("momentum_buffer", param, group) or gradient.dtype
        mean = _buffer("momentum_buffer", param, dtype, state)
    return MatrixTensors(
        local_part(param),
        local_part(gradient),
        local_part(mean),
        _compensation(param, group, state),
        layout_of(param, group["batch_dims"], process_group),
    )


def adamw_tensors(param: Tensor, group: Group, state: State) -> AdamWTensors:
    """What AdamW reads of a parameter with a gradient; state that is missing is made.

    The names in the state are those of `torch.optim.AdamW`.
    """
    if "step" not in state[param]:
        state[param]["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
    if group["capturable"]:
        state[param]["step"] = state[param]["step"].to(param.device)
    dtype = state_dtype("exp_avg", param, group) or param.dtype
    return AdamWTensors(
        local_part(param),
        local_part(redistribute_like(param.grad, param)),
        local_part(_buffer("exp_avg", param, dtype, state)),
        local_part(_buffer("exp_avg_sq", param, dtype, state)),
        state[param]["step"],
        _compensation(param, group, state),
    )


def state_dtype(name: str, param: Tensor, group: Group) -> torch.dtype | None:
    """The dtype that a group requires of a tensor in the state; None for that of the parameter."""
    if name == "momentum_buffer":
        dtype: torch.dtype | None = group.get("momentum_dtype")
        return dtype
    moments = name in ("exp_avg", "exp_avg_sq")
    return WIDE if moments and group["kahan_sum"] and needs_compensation(param) else None


def restore_dtypes(groups: list[Group], state: State, loaded: dict[str, Any]) -> None:
    """Take tensors again from a state that torch has loaded and rounded to parameters' dtypes."""
    for group, saved in zip(groups, loaded["param_groups"], strict=True):
        for param, key in zip(group["params"], saved["params"], strict=True):
            for name, value in loaded["state"].get(key, {}).items():
                dtype = state_dtype(name, param, group)
                if dtype not in (None, param.dtype):
                    state[param][name] = value.to(dtype=dtype, device=param.device)


def convert_step_counts(state: State) -> None:
    """Convert the numbers of steps in a state of the author's AdamW, which are integers."""
    for each in state.values():
        if isinstance(each.get("step"), int):
            each["step"] = torch.tensor(float(each["step"]), dtype=torch.float32, device="cpu")


def _compensation(param: Tensor, group: Group, state: State) -> Tensor | None:
    if not (group["kahan_sum"] and needs_compensation(param)):
        return None
    return local_part(_buffer("compensation", param, param.dtype, state))


def _buffer(name: str, param: Tensor, dtype: torch.dtype, state: State) -> Tensor:
    """A tensor of the state that is placed like its parameter; zero at first."""
    if name not in state[param]:
        state[param][name] = torch.zeros_like(param, dtype=dtype)
    state[param][name] = state[param][name].to(dtype)
    buffer: Tensor = state[param][name]
    return buffer


@contextmanager
def no_new_state_on_error(state: State) -> Iterator[None]:
    """Remove the parameters from a state that a block has added before it raised."""
    before = set(state)
    try:
        yield
    except BaseException:
        for param in state.keys() - before:
            del state[param]
        raise
