"""The optimizers that train a model whose parameters are not all matrices."""

import math
from collections.abc import Callable, Sequence
from typing import NoReturn, cast

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import get_total_norm
from torch.optim import AdamW, Optimizer

from memsolve.examples.factual_recall.facts import Prompts
from memsolve.examples.factual_recall.model import FactModel
from memsolve.faults import StepError, attribute_errors
from memsolve.frequencies import Batch
from memsolve.objective import Objective
from memsolve.optimizers.construct import GROUP
from memsolve.problem import AssociativeMemory
from memsolve.training import Builder, GroupLrs, Parameters, take_step

UNIT_STEP = 1 / 32
"""Norm of a first step of unit size, relative to that of the parameters."""

MAX_PROBE_STEPS = 12
"""An optimizer that has not moved its parameters after so many steps is rejected."""


class NoMemory:
    """Takes the place of an objective's memory: the loss of a model provides no Hessian."""

    def __getattr__(self, name: str) -> NoReturn:
        raise InputError("it asks for the loss and Hessian of a memory, and this is a model")


class LossClosure:
    """Loss and gradients of a model on prompts: the closure of a step.

    A call at unchanged parameters computes nothing, but sets the gradients again, because the
    optimizer may have changed them.
    """

    def __init__(self, model: FactModel, prompts: Prompts) -> None:
        self._model, self._prompts = model, prompts
        self._evaluated_at: list[Tensor] = []

    @torch.enable_grad()
    def __call__(self) -> Tensor:
        """The loss, a scalar; sets the gradient of every parameter."""
        params = list(self._model.parameters())
        if not self._evaluated_at or not all(map(torch.equal, params, self._evaluated_at)):
            self._evaluated_at = [param.detach().clone() for param in params]
            loss = cross_entropy(self._model(self._prompts.tokens), self._prompts.answers)
            self._loss, self._gradients = loss.detach(), torch.autograd.grad(loss, params)
        for param, gradient in zip(params, self._gradients, strict=True):
            param.grad = gradient.clone()
        return self._loss


class OptimizerGroup:
    """The optimizer of all parameters of a model, or of its matrices with AdamW for the rest.

    AdamW trains embeddings, head and biases, as is usual, if the optimizer rejects vectors or has
    parameter groups with `use_muon`.

    Args:
        build: makes the optimizer.
        model: is trained.

    Raises:
        StepError: the optimizer cannot be made.
    """

    def __init__(self, build: Builder, model: FactModel) -> None:
        params = list(model.parameters())
        try:
            self.optimizers = [_build_checked(build, params)]
            trains_all = not any(GROUP in group for group in self.optimizers[0].param_groups)
        except StepError:
            trains_all = False
        if not trains_all:
            matrices = model.matrices()
            ids = set(map(id, matrices))
            rest = [param for param in params if id(param) not in ids]
            self.optimizers = [_build_checked(build, matrices), AdamW(rest)]
        self._main_lrs = GroupLrs(self.optimizers[0])

    def step(self, closure: Callable[[], Tensor], lrs: Sequence[float]) -> float:
        """Take a step with a learning rate for each optimizer; the loss before it.

        Raises:
            StepError: the optimizer has no learning rate, or raised.
        """
        (main, *others), (main_lr, *other_lrs) = self.optimizers, lrs
        with attribute_errors("its step failed"):
            self._main_lrs.set(main_lr)
            loss = take_step(main, closure)
        for other, lr in zip(others, other_lrs, strict=True):
            other.param_groups[0]["lr"] = lr
            other.step()  # with the last gradients of the main optimizer
        return loss


def unit_lrs(build: Builder, model: FactModel, prompts: Prompts) -> list[float]:
    """The learning rate of each optimizer at which its first step has the norm `UNIT_STEP`.

    Tuning starts there, whatever the scale of an optimizer's steps, and it fixes the ratio of the
    learning rates of a group. The model is changed by the steps.

    Raises:
        StepError: an optimizer cannot be made, fails, does not move, or moves to NaN or infinity.
    """
    group, closure = OptimizerGroup(build, model), LossClosure(model, prompts)
    params = [_parameters(optimizer) for optimizer in group.optimizers]
    starts = [[param.detach().clone() for param in those] for those in params]
    lrs = [0.0] * len(params)
    for _ in range(MAX_PROBE_STEPS):
        group.step(closure, [1.0] * len(params))
        for index, (those, start) in enumerate(zip(params, starts, strict=True)):
            moves = [param.detach() - old for param, old in zip(those, start, strict=True)]
            distance = float(get_total_norm(moves))
            if not lrs[index] and 0 < distance < math.inf:
                lrs[index] = UNIT_STEP * float(get_total_norm(start)) / distance
        if all(lrs):
            return lrs
    raise StepError(
        "at a learning rate of 1 it does not move, or moves to NaN or infinity, so its learning "
        "rate cannot be tuned; set one in its name, as :lr=0.01"
    )


def _build_checked(build: Builder, params: Parameters) -> Optimizer:
    """Make the optimizer, and check that it trains these parameters and no others."""
    objective = Objective(cast("AssociativeMemory", NoMemory()), cast("Batch", None))
    with attribute_errors("it cannot be made"):
        optimizer = build(params, objective)
        if {id(param) for param in _parameters(optimizer)} != {id(param) for param in params}:
            raise StepError("it does not train the parameters that it was given")
    return optimizer


def _parameters(optimizer: Optimizer) -> Parameters:
    return [param for group in optimizer.param_groups for param in group["params"]]
