"""Muon: momentum, then the damped matrix sign of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, overload

import torch
from memsolve_kernels.arguments import parse_int
from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.matrix_sign import Polynomial, Schedule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from memsolve.optim.muon_checks import (
    COUNTS,
    AdjustLr,
    Group,
    check_gradients,
    check_hyperparameters,
    check_parameters,
)
from memsolve.optim.muon_update import Batch, apply, batches, steps_of

# What torch.optim.Muon orthogonalises by, in its state.
_TORCHS = "ns_coefficients", "ns_steps", "eps"

# A schedule is part of the optimizer's state, which torch.load reads with weights_only=True.
torch.serialization.add_safe_globals([Schedule, Polynomial])


class Muon(Optimizer):
    """Steps `W <- (1 - lr * weight_decay) W - lr * adjustment * h_damping(M)`.

    `M` is the running mean of the gradients, `M <- momentum M + (1 - momentum) G`, or, with
    `nesterov`, its look-ahead `momentum M + (1 - momentum) G`; it is the gradient for `momentum=0`.
    `h_damping` is `memsolve_kernels.matrix_sign`, which by default resolves the small singular
    values that five stock steps lose. With `schedule="muon"`, `dtype=torch.bfloat16` and
    `weight_decay=0.1` it makes the steps of `torch.optim.Muon`, up to rounding in bfloat16.

    Which matrices: a parameter of more than two dimensions is flattened to (rows, the product of
    the others), so that the kernel of a convolution (out, in, height, width) is one matrix
    (out, in * height * width). With `batch_dims=b` the first b dimensions are a batch of such
    parameters, the experts of a layer for example. With `heads=h` the rows are h equal blocks, and
    each block is a matrix of its own, which the adjustment follows; a fused weight of queries, keys
    and values with k heads each has `heads=3 * k`. A single row or column is divided by its length.
    A vector of more than two dimensions, such as (C, 1, 1), is refused.

    A step that raises has changed nothing: hyperparameters, parameters and gradients are checked
    and all signs taken before the first weight moves. So it holds the signs of all parameters at a
    time, as much memory as the parameters.

    Gradients are never modified.

    A state of `torch.optim.Muon` loads: its momentum and hyperparameters go on, its way to
    orthogonalise does not (give `schedule` and `dtype` as above). The other way round, torch's
    `step` raises a KeyError.

    Args:
        params: real parameters of two dimensions or more, named or not, or groups of them. Errors
            say the names.
        lr: step size; a number, or a tensor of one, which schedulers then change in place.
        momentum: decay of the running mean, in [0, 1).
        nesterov: look one step of momentum ahead.
        weight_decay: decoupled; torch's Muon has 0.1 by default.
        damping: `lambda` of `h_lambda`, in the units of `M`; 0 is the polar factor.
        schedule: of the Newton-Schulz iteration, as in `matrix_sign`.
        dtype: to iterate in, as in `matrix_sign` (default: the gradient's own).
        precision: of float32 products, as in `matrix_sign`.
        backend: as in `matrix_sign`; `"reference"` is an exact SVD.
        relative_damping: in place of `damping`, `lambda` of each matrix in units of its largest
            singular value at that step. Matrices are then orthogonalised one by one.
        gradient_dtype: round gradients to it first, to see what their precision is worth.
        adjust_lr_fn: the adjustment for matrices (m, n): `"original"`, `sqrt(max(1, m / n))`
            (default), or `"match_rms_adamw"`, `0.2 sqrt(max(m, n))`.
        maximize: climb instead: the steps are those on minus the gradients.
        foreach: False takes the sign of one parameter after the other, which holds less at a time.
            By default, and by True, those of one matrix shape, dtype and device in a group go as
            one batch.
        batch_dims: number of leading dimensions of a parameter that are a batch.
        heads: number of equal blocks of rows, each a matrix.

    Raises:
        ShapeError, DtypeError: a parameter that does not hold real matrices.
        RangeError, DtypeError, BackendError: a hyperparameter that cannot be used.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); Kim et al. 2026 (arXiv
    2603.26554) for the damping.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        damping: float = 0.0,
        schedule: Schedule | str | None = None,
        dtype: torch.dtype | None = None,
        precision: Precision | None = None,
        backend: BackendName | None = None,
        relative_damping: float = 0.0,
        gradient_dtype: torch.dtype | None = None,
        adjust_lr_fn: AdjustLr | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        batch_dims: int = COUNTS["batch_dims"],
        heads: int = COUNTS["heads"],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "damping": damping,
            "schedule": schedule,
            "dtype": dtype,
            "precision": precision,
            "backend": backend,
            "relative_damping": relative_damping,
            "gradient_dtype": gradient_dtype,
            "adjust_lr_fn": adjust_lr_fn,
            "maximize": maximize,
            "foreach": foreach,
            "batch_dims": batch_dims,
            "heads": heads,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyperparameters, as in every torch optimizer."""
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except Exception:
            self.param_groups.pop()
            raise

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; hyperparameters that it does not name stay as they are here.

        It may be `torch.optim.Muon`'s, whose momentum is the same running mean; how that one
        orthogonalises is left behind.

        Raises:
            InputError: a hyperparameter that cannot be used; nothing has changed.
        """
        groups = state["param_groups"]
        unpickled = not self.__dict__
        if unpickled:
            state = {**state, "defaults": {**COUNTS, **state["defaults"]}}
        here = [state["defaults"]] * len(groups) if unpickled else self.param_groups
        for group, own in zip(groups, here, strict=True):
            for name in _TORCHS:
                group.pop(name, None)
            group.update({name: own[name] for name in own.keys() - group.keys()})
            _check_group(group)
        super().__setstate__(state)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one step; `closure`, if given, evaluates the loss first, and its value is returned.

        Raises:
            InputError: nothing has changed. On a CPU these are NonFiniteError for a gradient that
                contains NaN or infinity, once rounded to `gradient_dtype` too, or a schedule that
                diverges; on any device, hyperparameters that cannot be used.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            check_hyperparameters(group)
            check_parameters(group)
            check_gradients(group)
        compiled = torch.compiler.is_compiling()
        with nullcontext() if compiled else self._without_new_state_on_error():
            work = [batch for group in self.param_groups for batch in self._batches(group)]
            steps = [steps_of(batch) for batch in work]
        for batch, each in zip(work, steps, strict=True):
            apply(batch, each)
        return loss

    @contextmanager
    def _without_new_state_on_error(self) -> Iterator[None]:
        known = set(self.state)
        try:
            yield
        except BaseException:
            for param in self.state.keys() - known:
                del self.state[param]
            raise

    def _batches(self, group: Group) -> list[Batch]:
        params: list[Tensor] = []
        gradients: list[Tensor] = []
        means: list[Tensor] = []
        self._init_group(group, params, gradients, means)
        return batches(group, params, gradients, means)

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        gradients: list[Tensor],
        means: list[Tensor],
    ) -> None:
        """Fill the lists with what has a gradient; torch.compile runs this and traces the rest."""
        for param in group["params"]:
            if param.grad is None:
                continue
            params.append(param)
            gradients.append(param.grad)
            if group["momentum"] == 0:
                means.append(param.grad)
                continue
            state = self.state[param]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(param.grad)
            means.append(state["momentum_buffer"])


def _check_group(group: Group) -> None:
    check_hyperparameters(group)
    group.update({name: parse_int(name, group[name], least) for name, least in COUNTS.items()})
    check_parameters(group)
