"""An optimizer at work on a model that has more than matrices."""

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
from memsolve.examples.factual_recall.model import Model
from memsolve.faults import StepError, attribute_errors
from memsolve.objective import Objective
from memsolve.optimizers.construct import GROUP
from memsolve.problem import AssociativeMemory, Batch
from memsolve.training import Builder, Parameters, take_step

FIRST_STEP = 1 / 32
"""Norm of a first step of unit size, in norms of the parameters that take it."""

PATIENCE = 12
"""What has not moved after so many steps is taken never to move."""


class NoMemory:
    """In the place of the memory that an objective has: a model's loss has no Hessian to give."""

    def __getattr__(self, name: str) -> NoReturn:
        raise InputError("it asks for the loss and Hessian of a memory, and this is a model")


class Evaluate:
    """Loss and gradients on prompts, wherever the model is: the closure of a step.

    Nothing is computed again where the parameters have not moved; the gradients are given anew,
    since an optimizer may have used them up.
    """

    def __init__(self, model: Model, prompts: Prompts) -> None:
        self._model, self._prompts = model, prompts
        self._evaluated_at: list[Tensor] = []

    @torch.enable_grad()
    def __call__(self) -> Tensor:
        """The loss, a scalar; every gradient is set."""
        params = list(self._model.parameters())
        if not self._evaluated_at or not all(map(torch.equal, params, self._evaluated_at)):
            self._evaluated_at = [param.detach().clone() for param in params]
            loss = cross_entropy(self._model(self._prompts.words), self._prompts.answers)
            self._loss, self._gradients = loss.detach(), torch.autograd.grad(loss, params)
        for param, gradient in zip(params, self._gradients, strict=True):
            param.grad = gradient.clone()
        return self._loss


class Team:
    """The optimizer of all parameters of a model; or of its matrices, and AdamW for the rest.

    The latter where it refuses vectors, or has groups that say `use_muon`: then embeddings, head
    and biases are AdamW's, as practitioners do.

    Args:
        build: makes the optimizer.
        model: is trained.

    Raises:
        StepError: the optimizer cannot be made.
    """

    def __init__(self, build: Builder, model: Model) -> None:
        params = list(model.parameters())
        try:
            self.members = [_made(build, params)]
            whole = not any(GROUP in group for group in self.members[0].param_groups)
        except StepError:
            whole = False
        if not whole:
            matrices = model.matrices()
            inside = set(map(id, matrices))
            rest = [param for param in params if id(param) not in inside]
            self.members = [_made(build, matrices), AdamW(rest)]

    def step(self, evaluate: Callable[[], Tensor], rates: Sequence[float]) -> float:
        """A step at a learning rate for each member; the loss before it.

        Raises:
            StepError: the optimizer has no learning rate, or raised.
        """
        (leader, *partners), (rate, *others) = self.members, rates
        with attribute_errors("its step failed"):
            loss = take_step(leader, evaluate, rate)
        for partner, other in zip(partners, others, strict=True):
            partner.param_groups[0]["lr"] = other
            partner.step()  # by the gradients of where the leader stood
        return loss


def unit_rates(build: Builder, model: Model, prompts: Prompts) -> list[float]:
    """The learning rate of each member of a team at which its first step is of unit size.

    Whatever units an optimizer counts its steps in, this is where tuning begins; and it couples
    the rates of the two members of a team. The model has made steps afterwards.

    Raises:
        StepError: a member cannot be made, fails, does not move, or moves to NaN or infinity.
    """
    team, evaluate = Team(build, model), Evaluate(model, prompts)
    params = [_parameters(member) for member in team.members]
    starts = [[param.detach().clone() for param in those] for those in params]
    rates = [0.0] * len(params)
    for _ in range(PATIENCE):
        team.step(evaluate, [1.0] * len(params))
        for place, (those, start) in enumerate(zip(params, starts, strict=True)):
            moves = [param.detach() - old for param, old in zip(those, start, strict=True)]
            moved = float(get_total_norm(moves))
            if not rates[place] and 0 < moved < math.inf:
                rates[place] = FIRST_STEP * float(get_total_norm(start)) / moved
        if all(rates):
            return rates
    raise StepError(
        "at a learning rate of 1 it does not move, or moves to NaN or infinity, so step sizes "
        "cannot be guessed: give it one in its name, as :lr=0.01"
    )


def _made(build: Builder, params: Parameters) -> Optimizer:
    """The optimizer of these parameters, all of them and no others."""
    objective = Objective(cast("AssociativeMemory", NoMemory()), cast("Batch", None))
    with attribute_errors("it cannot be made"):
        made = build(params, objective)
        if {id(param) for param in _parameters(made)} != {id(param) for param in params}:
            raise StepError("it does not train the parameters that it was given")
    return made


def _parameters(optimizer: Optimizer) -> Parameters:
    return [param for group in optimizer.param_groups for param in group["params"]]
