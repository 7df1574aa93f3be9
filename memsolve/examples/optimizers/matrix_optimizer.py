"""The loop over parameters, the checks and the running mean that these optimizers share."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch
from memsolve_kernels.errors import ShapeError
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from memsolve.optim.shared import check_range, evaluate, new_group, parameter_name


class MatrixOptimizer(Optimizer):
    """Steps each matrix by itself; a subclass defines the step of one.

    Args:
        params: matrices, or groups of them.
        settings: hyperparameters of every group.

    Raises:
        ShapeError: a parameter that is no matrix.
        RangeError: a hyperparameter out of range.
    """

    def __init__(self, params: ParamsT, **settings: Any) -> None:
        super().__init__(params, settings)

    @abstractmethod
    def step_matrix(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change a matrix (m, n), and its `state`, by a step on its gradient (m, n)."""

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise RangeError for a hyperparameter out of range."""
        check_range("lr", group["lr"], math.inf)
        check_range("momentum", group["momentum"], 1.0)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyperparameters, as in every torch optimizer."""
        super().add_param_group(param_group)
        with new_group(self) as group:
            self.check_group(group)
            for index, param in enumerate(group["params"]):
                if param.ndim != 2:
                    raise ShapeError(
                        f"{parameter_name(group, index)} has shape {tuple(param.shape)}; expected "
                        "a matrix. Leave other parameters to another optimizer"
                    )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; the closure evaluates the loss and the gradients before it."""
        loss = evaluate(closure)
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self.step_matrix(param, param.grad, group)
        return loss

    def running_mean(self, param: Tensor, name: str, value: Tensor, decay: float) -> Tensor:
        """The mean `M <- decay M + (1 - decay) value`, from zero, kept in the state of `param`."""
        state = self.state[param]
        if name not in state:
            state[name] = torch.zeros_like(value)
        mean: Tensor = state[name]
        return mean.lerp_(value, 1 - decay)
