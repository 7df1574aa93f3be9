"""Muon in whitened coordinates of the inputs."""

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import matrix_sign
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from memsolve.objective import Objective
from memsolve.optim.shared import check_complete, check_finite, evaluate, new_group


class WhitenedMuon(Optimizer):
    """Muon without momentum, in coordinates in which the inputs have second moment `I`.

    A step is `W <- W - lr * polar(G T) T` with `T = (S + damping * mean(S) * I)^(-1/2)`, where `S`
    is the second moment of the inputs and `mean(S)` its mean eigenvalue. This is the step of Muon
    for the weight `W T^-1` of the inputs `T u`, written for `W`.

    At `damping = 0` an invertible linear map `M` of the inputs changes the step from `X` to
    `X M^-1`, so that no logit changes (derived: `T M` of the new `T` is an orthogonal matrix times
    the old `T`, and the polar factor is equivariant under that). The step thus recovers the same
    items from anisotropic inputs as from isotropic ones.

    Args:
        params: matrices (d, d) whose `.grad` is the gradient of the objective's loss.
        objective: provides `input_moment()`, and `curvature()` on the current batch.
        lr: learning rate.
        damping: in units of `mean(S)`, at least 0.
        weighted: take `S` over the current batch with its weights, instead of over all items with
            equal ones. A batch with fewer than `d` distinct items has a singular `S`, which needs
            damping.

    Raises:
        RangeError: a hyperparameter out of range.
        DtypeError: a DTensor.
    """

    def __init__(
        self,
        params: ParamsT,
        objective: Objective,
        *,
        lr: float = 1.0,
        damping: float = 1e-6,
        weighted: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "damping": damping, "weighted": weighted})
        self.objective = objective

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyperparameters, as in every torch optimizer."""
        super().add_param_group(param_group)
        with new_group(self) as group:
            _check_group(group)
            check_complete(group)

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy or pickle; torch's own state lacks the objective."""
        return {**super().__getstate__(), "objective": self.objective}

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
            InputError: a gradient that contains NaN or infinity, a singular second moment without
                damping, or hyperparameters that cannot be used; nothing has changed.
        """
        loss = evaluate(closure)
        updates: list[tuple[Tensor, Tensor, float]] = []
        for group in self.param_groups:
            _check_group(group)
            whitening = self._whitening(group)
            for index, param in enumerate(group["params"]):
                if param.grad is not None:
                    check_finite(param.grad, group, index)
                    update = matrix_sign(param.grad @ whitening) @ whitening
                    updates.append((param, update, group["lr"]))
        for param, update, lr in updates:
            param.sub_(update, alpha=lr)
        return loss

    def _whitening(self, group: dict[str, Any]) -> Tensor:
        """`T` of a group, (d, d)."""
        objective = self.objective
        moment = objective.curvature().inputs if group["weighted"] else objective.input_moment()
        shift = group["damping"] * moment.diagonal().mean()
        eigenvalues, vectors = torch.linalg.eigh(moment)
        eigenvalues = eigenvalues + shift
        if not (eigenvalues > 0).all():
            raise RangeError(
                f"damping is {group['damping']}, and the second moment of the inputs is singular; "
                "expected a larger damping"
            )
        whitening: Tensor = vectors * eigenvalues.rsqrt() @ vectors.T
        return whitening


def _check_group(group: dict[str, Any]) -> None:
    lr, damping, weighted = group["lr"], group["damping"], group["weighted"]
    if not 0 < lr < math.inf:
        raise RangeError(f"lr is {lr}; expected a finite number above 0")
    if not 0 <= damping < math.inf:
        raise RangeError(f"damping is {damping}; expected a finite number of at least 0")
    if not isinstance(weighted, bool):
        raise RangeError(f"weighted is {weighted!r}; expected True or False")
