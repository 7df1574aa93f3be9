"""First steps of an optimizer on a tiny memory, before anything is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from typing import NamedTuple

import torch
from memsolve_kernels.errors import InputError

from memsolve import theory
from memsolve.faults import MachineError, attribute_errors
from memsolve.objective import Objective
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.identity import Identity, identity
from memsolve.optimizers.registry import builder
from memsolve.seeds import seeded
from memsolve.stepper import Build, Manner, StepError, Stepper, tiny_objective
from memsolve.training import State, train

ALIKE = 1 - 1e-6
"""Cosine above which two steps are the same up to their size."""

STEPS = 12
"""What has not moved after so many is taken never to move."""


class ProbeResult(NamedTuple):
    """What is known of an optimizer before it is measured.

    Attributes:
        remark: a peculiarity of its first step, in a few words; empty without one.
        identity: what it is made of.
    """

    remark: str
    identity: Identity


def identify(label: str, choice: Choice, device: str, dtype: torch.dtype) -> Identity:
    """What an optimizer is made of: made, but not stepped.

    Raises:
        InputError: it cannot be made; says which one, and why in its own words.
        MachineError: the machine failed meanwhile.
    """
    with _named(label), seeded(device, 0):
        stepper = Stepper(tiny_objective(device, dtype), builder(choice), Manner())
        with attribute_errors("it cannot be made"):
            return identity(choice, stepper.optimizer)


def probe(label: str, choice: Choice, device: str, dtype: torch.dtype) -> str:
    """What the first step of an optimizer is, in a few words; empty where nothing is to remark.

    Raises:
        InputError: it cannot be used; says which one, and why in its own words.
        MachineError: the machine failed meanwhile.
    """
    objective = tiny_objective(device, dtype)
    build = builder(choice)
    with _named(label):
        first, again = (_walk(objective, build, device, seed) for seed in (0, 1))
        with seeded(device, 0), attribute_errors("it cannot be made"):
            weight = torch.nn.Parameter(torch.zeros_like(objective.memory.output_covariance))
            made = build([weight], objective)
            rates = [group.get("lr") for group in made.param_groups]
            method = theory.method_of(made)
    remarks = [] if method == "sgd" else [_direction(first[0].weight, objective)]
    if not first[0].weight.any():
        at_first = "at first" if first[-1].weight.any() else ""
        remarks = ["learning rate zero" if not any(rates) else f"no step taken {at_first}"]
    pairs = zip(first, again, strict=False)
    if not all(torch.equal(one.weight, other.weight) for one, other in pairs):
        remarks.append("random")
    if first[0].single:
        remarks.append("in float32")
    return ", ".join(each.strip() for each in remarks if each)


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Name the optimizer in what it fails with; failures of the machine pass."""
    try:
        yield
    except MachineError:
        raise
    except InputError as error:
        raise StepError(f"optimizer {label!r} cannot be used: {error}") from error


def _walk(objective: Objective, build: Build, device: str, seed: int) -> list[State]:
    """The states of the first steps.

    Raises:
        StepError: the first one failed, or made NaN or infinity.
    """
    states = []
    with seeded(device, seed):
        try:
            for state in train(objective, build, repeat(objective.batch, STEPS), repeat(None)):
                states += [replace(state, weight=state.weight.clone())]
        except StepError:
            if not states:
                raise
    if not states:
        raise StepError("its step made NaN or infinity")
    return states


def _direction(weight: torch.Tensor, objective: Objective) -> str:
    """What the direction of a step from zero is, if it is one that people know."""
    gradient = objective.gradient_at_zero()

    def cosine(other: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(weight.flatten(), other.flatten(), 0))

    if cosine(-gradient) > ALIKE:
        return "equals SGD's step"
    if cosine(-gradient.sign()) > ALIKE:
        return "equals the sign"
    return "uphill" if cosine(gradient) > 0 else ""
