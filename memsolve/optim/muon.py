"""Muon: momentum, then the damped matrix sign of it."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, overload

import torch
from memsolve_kernels.dispatch import Backend, Precision
from memsolve_kernels.errors import DtypeError, NonFiniteError, RangeError, ShapeError
from memsolve_kernels.matrix_sign import Polynomial, Schedule, check_settings, matrix_sign
from memsolve_kernels.modes import is_readable
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

AdjustLr = Literal["original", "match_rms_adamw"]

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

    Gradients are never modified.

    A state of `torch.optim.Muon` loads: its momentum and hyperparameters go on, its way to
    orthogonalise does not (give `schedule` and `dtype` as above). The other way round, torch's
    `step` raises a KeyError.

    Args:
        params: parameters (..., m, n), real, or groups of them; leading dimensions are a batch of
            matrices.
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
        adjust_lr_fn: the adjustment: `"original"`, `sqrt(max(1, m / n))` (default), or
            `"match_rms_adamw"`, `0.2 sqrt(max(m, n))`.
        maximize: climb instead: the steps are those on minus the gradients.
        foreach: False steps one parameter after the other, which holds less at a time. By default,
            and by True, those of one matrix shape, dtype and device in a group step as one batch.

    Raises:
        ShapeError, DtypeError: a parameter that is not a real matrix or batch of matrices.
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
        backend: Backend | None = None,
        relative_damping: float = 0.0,
        gradient_dtype: torch.dtype | None = None,
        adjust_lr_fn: AdjustLr | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
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
            NonFiniteError: a gradient contains NaN or infinity (on a CPU); nothing has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                _check_gradient(param.grad)
        for group in self.param_groups:
            params: list[Tensor] = []
            gradients: list[Tensor] = []
            means: list[Tensor] = []
            self._init_group(group, params, gradients, means)
            for batch in _batches(params, group["foreach"]):
                parts = ([tensors[at] for at in batch] for tensors in (params, gradients, means))
                _update(group, *parts)
        return loss

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


def _update(
    group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], means: list[Tensor]
) -> None:
    """Step parameters of matrices of one shape, with `M` of `means`, by the settings of a group."""
    directions = _directions(group, gradients, means)
    shape, counts = params[0].shape[-2:], [param.shape[:-2].numel() for param in params]
    matrices = [M.reshape(count, *shape) for M, count in zip(directions, counts, strict=True)]
    parts = torch.split(_sign(torch.cat(matrices), group), counts)
    steps = [part.reshape(p.shape).to(p.dtype) for part, p in zip(parts, params, strict=True)]
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    rate = lr * _adjustment(group["adjust_lr_fn"], *shape)
    torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    if isinstance(rate, Tensor):  # it may be on a GPU, and changes without a new compilation
        torch._foreach_add_(params, torch._foreach_mul(steps, -rate))
    else:
        torch._foreach_add_(params, steps, alpha=-rate)


def _directions(
    group: dict[str, Any], gradients: list[Tensor], means: list[Tensor]
) -> Sequence[Tensor]:
    """`M` of each parameter, whose running mean moves on."""
    rounding, momentum = group["gradient_dtype"], group["momentum"]
    if rounding is not None:
        gradients = [gradient.to(rounding).to(gradient.dtype) for gradient in gradients]
    if group["maximize"]:
        gradients = list(torch._foreach_neg(gradients))
    if momentum == 0:
        return gradients
    torch._foreach_lerp_(means, gradients, 1 - momentum)
    return torch._foreach_lerp(gradients, means, momentum) if group["nesterov"] else means


def _sign(directions: Tensor, group: dict[str, Any]) -> Tensor:
    """`h` of a batch of matrices (k, m, n), by the settings of a group."""
    settings = {name: group[name] for name in ("schedule", "dtype", "precision", "backend")}
    relative = group["relative_damping"]
    if not relative:
        return matrix_sign(directions, group["damping"], **settings)
    sizes = torch.linalg.matrix_norm(directions, 2).tolist()
    signs = [
        matrix_sign(direction, relative * size, **settings)
        for direction, size in zip(directions, sizes, strict=True)
    ]
    return torch.stack(signs) if signs else directions


def _batches(params: list[Tensor], foreach: bool | None) -> list[list[int]]:
    """Positions of parameters to step together: those of one matrix shape, dtype and device."""
    if foreach is False:
        return [[at] for at in range(len(params))]
    alike = defaultdict(list)
    for at, param in enumerate(params):
        alike[param.shape[-2:], param.dtype, param.device].append(at)
    return list(alike.values())


def _adjustment(name: AdjustLr | None, rows: int, columns: int) -> float:
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def _check_gradient(gradient: Tensor | None) -> None:
    if gradient is None:
        return
    if gradient.is_sparse:
        raise DtypeError("a gradient is sparse; expected dense gradients")
    if is_readable(gradient) and not gradient.isfinite().all():
        raise NonFiniteError("a gradient contains NaN or infinity; expected finite entries")


def _check_group(group: dict[str, Any]) -> None:
    if isinstance(group["lr"], Tensor) and group["lr"].numel() != 1:
        shape = tuple(group["lr"].shape)
        raise ShapeError(f"lr is a tensor of shape {shape}; expected a number or a tensor of one")
    for name, high in (("lr", math.inf), ("weight_decay", math.inf), ("momentum", 1.0)):
        if not 0 <= group[name] < high:
            raise RangeError(f"{name} is {group[name]}; expected a number in [0, {high})")
    if group["adjust_lr_fn"] not in (None, *get_args(AdjustLr)):
        raise RangeError(
            f"adjust_lr_fn is {group['adjust_lr_fn']!r}; expected None or one of "
            f"{get_args(AdjustLr)}"
        )
    for name in ("nesterov", "maximize", "foreach"):
        values = (True, False, None) if name == "foreach" else (True, False)
        if not any(group[name] is value for value in values):
            raise RangeError(f"{name} is {group[name]!r}; expected one of {values}")
    names = "damping", "schedule", "dtype", "precision", "backend"
    check_settings(*(group[name] for name in names))
    if not 0 <= group["relative_damping"] < math.inf:
        raise RangeError(
            f"relative_damping is {group['relative_damping']}; expected a number in [0, inf)"
        )
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
    for param in group["params"]:
        if param.ndim < 2:
            raise ShapeError(
                f"a parameter has shape {tuple(param.shape)}; Muon takes matrices (..., m, n). "
                "Give vectors, such as biases, to another optimizer"
            )
        if not param.is_floating_point():
            raise DtypeError(f"a parameter has dtype {param.dtype}; expected a real floating one")
