"""First steps of an optimizer on a tiny memory, before anything is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor

from memsolve import theory
from memsolve.faults import MachineError, StepError, attribute_errors
from memsolve.objective import Objective
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.identity import Identity, identity
from memsolve.optimizers.lr_behavior import lr_behavior
from memsolve.optimizers.registry import builder
from memsolve.optimizers.requirements import tiny_objective
from memsolve.seeds import seeded
from memsolve.training import OptimizerRequirements, Trainer

EQUAL_COSINE = 1 - 1e-6
"""Cosine above which two steps are equal but for their norm."""

PROBE_STEPS = 12
"""An optimizer that has not moved the weight after so many steps never will, as far as we test."""


class ProbeResult(NamedTuple):
    """An optimizer before it is measured.

    Attributes:
        remark: peculiarities of its first steps and of its learning rate, in a few words; empty
            without one.
        identity: its code, settings and packages.
    """

    remark: str
    identity: Identity


class FirstSteps(NamedTuple):
    """The first steps of an optimizer.

    Attributes:
        weights: (d, d) after each step.
        lrs: learning rate of each group before the first step; None where it has none.
        method: of the theory, if it is one.
        requirements: of the optimizer.
    """

    weights: list[Tensor]
    lrs: list[float | None]
    method: theory.Method | None
    requirements: OptimizerRequirements


def identify(label: str, choice: Choice, device: str, dtype: torch.dtype) -> Identity:
    """The identity of an optimizer, which is built for that but takes no step.

    Raises:
        InputError: it cannot be built; says which one, and why in its own words.
        MachineError: the machine failed meanwhile.
    """
    with _labelled_errors(label), seeded(device, 0):
        objective = tiny_objective(device, dtype)
        trainer = Trainer(objective, builder(choice), OptimizerRequirements())
        with attribute_errors("it cannot be made"):
            return identity(choice, trainer.optimizer)


def probe(label: str, choice: Choice, device: str, dtype: torch.dtype) -> str:
    """A remark on the first steps of an optimizer, in a few words; empty if there is none.

    Raises:
        InputError: it cannot be used; says which one, and why in its own words.
        MachineError: the machine failed meanwhile.
    """
    objective = tiny_objective(device, dtype)
    with _labelled_errors(label):
        first, repeated = (_first_steps(objective, choice, device, seed) for seed in (0, 1))
    remarks = []
    if not first.weights[0].any():
        late = first.weights[-1].any()
        idle = "no step taken at first" if late else "no step taken"
        remarks.append(idle if any(first.lrs) else "learning rate zero")
    elif first.method != "sgd":
        remarks.append(_compare_directions(first.weights[0], objective))
    if not all(map(torch.equal, first.weights, repeated.weights)):
        remarks.append("random")
    if first.requirements.needs_float32:
        remarks.append("in float32")
    with _labelled_errors(label):
        behavior = lr_behavior(builder(choice), device, dtype)
    remarks.append(behavior.remark)
    remarks += ["an lr for each group"] if len(set(first.lrs)) > 1 else []
    return ", ".join(filter(None, remarks))


@contextmanager
def _labelled_errors(label: str) -> Iterator[None]:
    """Put the label of an optimizer into its errors; errors of the machine pass."""
    try:
        yield
    except MachineError:
        raise
    except InputError as error:
        raise StepError(f"optimizer {label!r} cannot be used: {error}") from error


def _first_steps(objective: Objective, choice: Choice, device: str, seed: int) -> FirstSteps:
    """Take first steps.

    Raises:
        StepError: the first one failed, or made NaN or infinity.
    """
    weights: list[Tensor] = []
    build = builder(choice)
    with seeded(device, seed):
        trainer = Trainer(objective, build)
        with attribute_errors("it cannot be made"):
            lrs = trainer.lrs.current()
            method = theory.method_of(trainer.optimizer)
        try:
            for _ in range(PROBE_STEPS):
                state = trainer.step(objective.batch)
                if state is None:
                    break
                weights.append(state.weight.clone())
        except StepError:
            if not weights:
                raise
    if not weights:
        raise StepError("its step made NaN or infinity")
    return FirstSteps(weights, lrs, method, trainer.requirements)


def _compare_directions(weight: Tensor, objective: Objective) -> str:
    """Compare a step from zero with the steps of SGD and of its sign."""
    gradient = objective.gradient_at_zero()

    def cosine(other: Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(weight.flatten(), other.flatten(), 0))

    if cosine(-gradient) > EQUAL_COSINE:
        return "equals SGD's step"
    if cosine(-gradient.sign()) > EQUAL_COSINE:
        return "equals the sign"
    return "uphill" if cosine(gradient) > 0 else ""
