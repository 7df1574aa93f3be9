"""Muon with the damping of the theorem on many steps, which falls from step to step."""

from collections.abc import Callable
from typing import Any, overload

import torch
from memsolve_kernels.errors import RangeError
from torch.optim.optimizer import ParamsT

from memsolve.objective import Objective
from memsolve.optim.muon import Muon
from memsolve.optim.shared import evaluate

SCALE = 1.0


class TheoremMuon(Muon):
    """Muon without momentum, damped by `lambda_t` at step `t = 0, 1, ...`, as in the theorem.

    `lambda_t = scale * sigma * d^(1/2 - alpha e_(t+1))`, where `sigma` is the largest singular
    value of the first gradient and `e_t = 2 - (1 - 1/(2 alpha))^t`. After `t` steps `d^e_t` items
    are recovered, so `lambda_t` follows the frequency of the rarest item that the step recovers;
    `lambda_0` is `scale * sigma * d^-alpha`.

    Args:
        params: one matrix (d, d).
        objective: of an associative memory, for its `alpha` and `d`.
        lr: learning rate.
        scale: constant of `lambda_t`, which the theorem leaves open.
        settings: further arguments of `Muon`, except damping.

    Raises:
        RangeError: `scale` is no finite number of at least 0.

    Source: Kim et al. 2026 (arXiv 2603.26554), whose `lambda_t ~ d_(t+1)^-alpha sqrt(d)`, in its
    own normalisation, has no constant; logarithms are left out.
    """

    def __init__(
        self,
        params: ParamsT,
        objective: Objective,
        lr: float = 1.0,
        *,
        scale: float = SCALE,
        **settings: Any,
    ) -> None:
        if not 0 <= scale < float("inf"):
            raise RangeError(f"scale is {scale}; expected a finite number of at least 0")
        super().__init__(params, lr, **{"momentum": 0.0, **settings})
        self.defaults["scale"] = scale
        for group in self.param_groups:
            group |= {"scale": scale, "steps": 0, "sigma": 0.0}
        self.objective = objective

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy or pickle; torch's own state lacks the objective."""
        return {**super().__getstate__(), "objective": self.objective}

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; as `Muon.step`, with the damping of this step."""
        loss = evaluate(closure)
        for group in self.param_groups:
            if group["steps"] == 0:
                gradients = [param.grad for param in group["params"] if param.grad is not None]
                group["sigma"] = max(float(torch.linalg.matrix_norm(G, 2)) for G in gradients)
            group["damping"] = self._damping(group)
        super().step()
        for group in self.param_groups:
            group["steps"] += 1
        return loss

    def _damping(self, group: dict[str, Any]) -> float:
        memory = self.objective.memory
        alpha, dim = memory.alpha, memory.dim
        exponent = 2 - (1 - 1 / (2 * alpha)) ** (group["steps"] + 1)
        return float(group["scale"] * group["sigma"] * dim ** (0.5 - alpha * exponent))
