"""Optimizers that keep the singular vectors of the momentum and change its singular values."""

import math
from abc import abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any, overload

import torch
from memsolve_kernels.arguments import parse_int
from memsolve_kernels.errors import DtypeError, RangeError, ShapeError
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from memsolve.optim.shared import (
    check_complete,
    check_dense,
    check_finite,
    check_range,
    evaluate,
    new_group,
    parameter_name,
)

KAON_SLOPE, KAON_SCALE = 4.1, 1.175
"""Constants of Kaon's iteration: its slope at zero, and the largest value that it reaches."""


class SpectralOptimizer(Optimizer):
    """Momentum, followed by a change of the singular values of the momentum.

    A step is `W <- (1 - lr * weight_decay) W - lr * U f(S) V^T`, where `U S V^T` is the singular
    value decomposition of the running mean `M <- momentum M + (1 - momentum) G` of the gradients;
    without momentum, of the gradient. A subclass defines `f`.

    The decomposition is in float64. Singular values that are rounding count as zero and stay zero,
    whatever `f` is: those below the rounding of the gradient's dtype, or below max(m, n) roundings
    of float64, relative to the largest. The gradient of a small batch has such values, because its
    rank is at most the number of distinct items.

    A parameter of more than two dimensions is flattened to (rows, product of the others), as in
    `Muon`. A step that raises changes nothing.

    Args:
        params: real parameters of two or more dimensions, or groups of them. If they are named,
            errors show the names.
        lr: learning rate.
        momentum: decay of the running mean, in [0, 1).
        weight_decay: decoupled weight decay.
        settings: further hyperparameters of a subclass.

    Raises:
        ShapeError, DtypeError: a parameter that does not hold a real matrix, or is a DTensor.
        RangeError: a hyperparameter out of range.
    """

    def __init__(
        self, params: ParamsT, lr: float, momentum: float, weight_decay: float, **settings: Any
    ) -> None:
        shared = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, shared | settings)

    @abstractmethod
    def singular_values(self, values: Tensor, group: dict[str, Any]) -> Tensor:
        """`f(S)`.

        Args:
            values: (k,) float64, the singular values `S`, decreasing.
            group: hyperparameters of the parameter.

        Returns:
            (k,) float64. Where `values` are rounding, the result is not used and may be infinite.
        """

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise RangeError for a hyperparameter out of range."""
        check_range("lr", group["lr"], math.inf)
        check_range("momentum", group["momentum"], 1.0)
        check_range("weight_decay", group["weight_decay"], math.inf)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyperparameters, as in every torch optimizer."""
        super().add_param_group(param_group)
        with new_group(self) as group:
            self.check_group(group)
            check_complete(group)
            for index, param in enumerate(group["params"]):
                _check_parameter(param, group, index)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load a state.

        Raises:
            RangeError: a hyperparameter that cannot be used; nothing has changed.
        """
        for group in state["param_groups"]:
            self.check_group(group)
        super().__setstate__(state)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: evaluates the loss and the gradients, before the step.

        Returns:
            The loss of the closure; None without one.

        Raises:
            InputError: a gradient that is sparse or contains NaN or infinity, or a hyperparameter
                out of range; nothing has changed.
        """
        loss = evaluate(closure)
        updates: list[tuple[Tensor, dict[str, Any], Tensor, Tensor]] = []
        for group in self.param_groups:
            self.check_group(group)
            for index, param in enumerate(group["params"]):
                if param.grad is not None and param.numel():
                    check_dense(param.grad, group, index)
                    check_finite(param.grad, group, index)
                    mean = self._running_mean(param, param.grad, group["momentum"])
                    updates.append((param, group, mean, self._direction(mean, group)))
        for param, group, mean, direction in updates:
            if group["momentum"]:
                self.state[param]["momentum_buffer"] = mean
            param.mul_(1 - group["lr"] * group["weight_decay"])
            param.add_(direction, alpha=-group["lr"])
        return loss

    def _running_mean(self, param: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """The running mean as it will be after the step."""
        if not momentum:
            return gradient
        if param not in self.state:
            return (1 - momentum) * gradient
        return torch.lerp(self.state[param]["momentum_buffer"], gradient, 1 - momentum)

    def _direction(self, mean: Tensor, group: dict[str, Any]) -> Tensor:
        """`U f(S) V^T`, in the shape and dtype of `mean`."""
        matrix = mean.flatten(1).double()
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        digits = max(torch.finfo(mean.dtype).eps, max(matrix.shape) * torch.finfo(matrix.dtype).eps)
        changed = self.singular_values(values, group).where(values > digits * values[:1], 0.0)
        direction: Tensor = (left * changed) @ right
        return direction.reshape(mean.shape).to(mean.dtype)


class SpectralPower(SpectralOptimizer):
    """Momentum, followed by a power of its singular values: `U S^power V^T`.

    Power 1 is SGD and power 0 is Muon with the exact polar factor. Powers between them raise
    small singular values relative to the others; negative powers make them the largest. A step is
    homogeneous of degree `power` in the gradient, so that `lr` has other units at other powers:
    tune it for each. Momentum, weight decay, parameters and errors are as in `SpectralOptimizer`:
    `M` is a running mean, and singular values that are rounding stay zero.

    Args:
        params: real parameters of two or more dimensions, or groups of them.
        lr: learning rate.
        power: of the singular values, a finite number.
        momentum: decay of the running mean of gradients, in [0, 1).
        weight_decay: decoupled weight decay.

    Raises:
        ShapeError, DtypeError: a parameter that does not hold a real matrix, or is a DTensor.
        RangeError: a hyperparameter out of range.

    Source: the family is published for powers from 0 to 1 (Qi et al. 2026, arXiv 2602.04669) and
    for negative ones (Shumaylov et al. 2026, arXiv 2605.11181), both computed by iterations.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        *,
        power: float = 0.5,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, momentum, weight_decay, power=power)

    def singular_values(self, values: Tensor, group: dict[str, Any]) -> Tensor:
        """`S^power`."""
        return values.pow(group["power"])

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise RangeError for a hyperparameter out of range."""
        super().check_group(group)
        power = group["power"]
        if not (isinstance(power, Real) and math.isfinite(power)):
            raise RangeError(f"power is {power!r}; expected a finite number, such as 0.5")


class RandomSpectrum(SpectralOptimizer):
    """Momentum, followed by random singular values: `U R V^T`.

    `R` is drawn in every step from torch's global generator, uniform between 0 and 2, independent
    of the gradient. Its mean is 1, so that the expected step is that of Muon with the exact polar
    factor, and `lr` has the same meaning. The optimizer's state does not hold the generator's.
    Momentum, weight decay, parameters and errors are as in `SpectralOptimizer`.

    Args:
        params: real parameters of two or more dimensions, or groups of them.
        lr: learning rate.
        momentum: decay of the running mean of gradients, in [0, 1).
        weight_decay: decoupled weight decay.

    Raises:
        ShapeError, DtypeError: a parameter that does not hold a real matrix, or is a DTensor.
        RangeError: a hyperparameter out of range.

    Source: Shumaylov et al. 2026 (arXiv 2605.11181) publish that singular values replaced by
    random noise match Muon. Their optimizer draws no numbers: see `Kaon`. The distribution here is
    ours.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, momentum, weight_decay)

    def singular_values(self, values: Tensor, group: dict[str, Any]) -> Tensor:
        """Random numbers."""
        return 2 * torch.rand_like(values)


class Kaon(SpectralOptimizer):
    """Momentum, followed by a chaotic iteration of its singular values, exactly.

    Singular values relative to their root of the sum of squares go through
    `s <- 4.1 s (1 - s^2)^2`, `steps` times, and are divided by 1.175, the largest value that the
    iteration reaches. Once a value is no longer small it moves chaotically, which takes the place
    of random numbers. A value far below `4.1^-steps` only grows by that factor. Momentum, weight
    decay, parameters and errors are as in `SpectralOptimizer`.

    Args:
        params: real parameters of two or more dimensions, or groups of them.
        lr: learning rate.
        steps: how many iterations, at least 1.
        momentum: decay of the running mean of gradients, in [0, 1).
        weight_decay: decoupled weight decay.

    Raises:
        ShapeError, DtypeError: a parameter that does not hold a real matrix, or is a DTensor.
        RangeError: a hyperparameter out of range.

    Source: Shumaylov et al. 2026 (arXiv 2605.11181), seen second-hand: two descriptions agree on
    the constants, one of them on five steps. The iteration is published for matrices in bfloat16;
    here it acts on the exact singular values.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        *,
        steps: int = 5,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, momentum, weight_decay, steps=steps)

    def singular_values(self, values: Tensor, group: dict[str, Any]) -> Tensor:
        """The values after the last iteration."""
        iterated: Tensor = values / torch.linalg.vector_norm(values)
        for _ in range(group["steps"]):
            iterated = KAON_SLOPE * iterated * (1 - iterated.square()).square()
        return iterated / KAON_SCALE

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise RangeError for a hyperparameter out of range."""
        super().check_group(group)
        parse_int("steps", group["steps"], 1)


def _check_parameter(param: Tensor, group: dict[str, Any], index: int) -> None:
    name = parameter_name(group, index)
    if param.ndim < 2:
        raise ShapeError(
            f"{name} has shape {tuple(param.shape)}; expected a matrix, of two dimensions or more. "
            "Give vectors, such as biases, to another optimizer"
        )
    if not param.is_floating_point():
        raise DtypeError(f"{name} has dtype {param.dtype}; expected a real floating one")
