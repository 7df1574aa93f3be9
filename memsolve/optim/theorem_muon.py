"""Muon with the damping of the theorem on many steps, which falls from step to step."""

from collections.abc import Callable
from typing import Any, overload

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor
from torch.optim.optimizer import ParamsT

from memsolve.checks import is_positive
from memsolve.objective import Objective
from memsolve.optim.muon import Muon
from memsolve.optim.shared import check_complete, check_finite, evaluate


class TheoremMuon(Muon):
    """Muon without momentum, damped by `lambda_t` at step `t = 0, 1, ...`, as in the theorem.

    `lambda_t = scale * sigma * d^(1/2 - alpha e_(t+1))`, where `sigma` is the largest singular
    value of the first gradient and `e_t = 2 - (1 - 1/(2 alpha))^t`. The law is that `d^e_t` items
    are recovered after `t` steps, so `lambda_t` follows the frequency of the rarest item of the
    step; `lambda_0` is `scale * sigma * d^-alpha`.

    Args:
        params: one matrix (d, d).
        objective: of an associative memory, for its `alpha` and `d`.
        lr: learning rate.
        scale: constant of `lambda_t`. Measured at alpha = 1.5, d = 64 and 128, two seeds: at 1
            one step recovers 6 to 7% fewer items than without damping, at 10 half as many.
        settings: further arguments of `Muon`, except for damping.

    Raises:
        RangeError: `scale` is no finite number of at least 0, more than one parameter, a damping,
            which this class sets itself, or a process group.
        DtypeError: a DTensor.

    Source: Kim et al. 2026 (arXiv 2603.26554): `lambda_t ~ d_(t+1)^-alpha sqrt(d)`, with `d_t` the
    number of items after `t` steps, in the paper's normalisation. Its logarithms are left out.
    """

    def __init__(
        self,
        params: ParamsT,
        objective: Objective,
        lr: float = 1.0,
        *,
        scale: float = 1.0,
        **settings: Any,
    ) -> None:
        if not (is_positive(scale) or scale == 0):
            raise RangeError(f"scale is {scale!r}; expected a finite number of at least 0")
        for name in ("damping", "relative_damping"):
            if name in settings:
                raise RangeError(f"{name} is set by TheoremMuon in each step; give scale instead")
        if "process_group" in settings:
            raise RangeError("process_group was given; TheoremMuon steps one matrix on every rank")
        super().__init__(params, lr, **{"momentum": 0.0, **settings})
        if (count := sum(len(group["params"]) for group in self.param_groups)) != 1:
            raise RangeError(f"params holds {count} matrices; expected the weight of one memory")
        if not self.param_groups[0]["use_muon"]:
            raise RangeError("use_muon is False; TheoremMuon steps the weight of a memory by Muon")
        check_complete(self.param_groups[0])
        self.objective, self.scale = objective, scale

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy or pickle; torch's own state lacks the objective and the scale."""
        return {**super().__getstate__(), "objective": self.objective, "scale": self.scale}

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; as `Muon.step`, with the damping of this step.

        Raises:
            InputError: as `Muon.step`; nothing has changed.
        """
        loss = evaluate(closure)
        states: dict[Tensor, dict[str, Any]] = {}
        for group in self.param_groups:
            for index, param in enumerate(group["params"]):
                if param.grad is not None:
                    check_finite(param.grad, group, index)
                    states[param] = state = self._next_state(param, param.grad)
                    group["damping"] = self._damping(state)
        super().step()
        for param, state in states.items():
            self.state[param].update(state)
        return loss

    def _next_state(self, param: Tensor, gradient: Tensor) -> dict[str, Any]:
        """`sigma`, and the number of steps with the coming one."""
        if param in self.state:
            return {"sigma": self.state[param]["sigma"], "steps": self.state[param]["steps"] + 1}
        return {"sigma": float(torch.linalg.matrix_norm(gradient, 2)), "steps": 1}

    def _damping(self, state: dict[str, Any]) -> float:
        alpha, dim = self.objective.memory.alpha, self.objective.memory.dim
        exponent = 2 - (1 - 1 / (2 * alpha)) ** state["steps"]
        return float(self.scale * state["sigma"] * dim ** (0.5 - alpha * exponent))
