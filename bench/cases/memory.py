"""The gradient of an associative memory on batches of every size: what a training step costs.

A batch of `B` draws holds about `B^(1/alpha)` distinct items, and the gradient is taken over those:
flops follow them, `4 U N d`, and so should the time.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.registry import Case, Format, Function, Run, Way, lookup

ALPHA = 1.5


class Size(NamedTuple):
    B: int
    N: int
    d: int


class Inputs(NamedTuple):
    memory: Any
    batch: Any
    weight: Tensor


def inputs(size: Size, form: Format, device: torch.device) -> Inputs:
    """A memory of seed 0, a batch, and a random weight that gives logits of a few units."""
    make = lookup("memsolve:AssociativeMemory")
    memory = make(size.N, size.d, ALPHA, seed=0, device=device, dtype=form.dtype)
    generator = torch.Generator().manual_seed(0)
    batch = memory.sample(size.B, generator)
    weight = 3 * torch.randn(size.d, size.d, generator=generator, dtype=torch.float64)
    return Inputs(memory, batch, weight.to(memory.inputs))


def reference(given: Inputs) -> Tensor:
    """By all logits, in float64."""
    memory, (items, weights), weight = given
    outputs, inputs = memory.outputs.double(), memory.inputs[items].double()
    errors = (inputs @ weight.double().T @ outputs.T).softmax(1)
    errors[torch.arange(len(items)), items] -= 1
    gradient: Tensor = (errors * weights[:, None].double() @ outputs).T @ inputs
    return gradient


def ours(given: Inputs) -> Run:
    return lambda: given.memory.gradient(given.weight, given.batch)


def two_products(given: Inputs) -> Run:
    """The products of logits and of their weights with the outputs, and nothing else."""
    outputs, queries = given.memory.outputs, given.memory.inputs[given.batch.items]
    return lambda: (queries @ outputs.T) @ outputs


@cache
def distinct(size: Size) -> int:
    """How many distinct items the batch holds."""
    make = lookup("memsolve:AssociativeMemory")
    memory = make(size.N, 1, ALPHA, seed=0)
    return len(memory.sample(size.B, torch.Generator().manual_seed(0)).items)


GRADIENT = Function(
    name="memory_gradient",
    inputs=inputs,
    reference=reference,
    ways=(Way("ours", ours), Way("two GEMMs", two_products, bound=True)),
    items=distinct,
    flops=lambda given: 4.0 * len(given.batch.items) * given.memory.outputs.numel(),
    bytes=lambda size, width: 2.0 * width * size.N * size.d,
)

CASES: list[Case] = GRADIENT.cases(
    "cpu", [Size(1 << octave, 4096, 64) for octave in range(8, 25, 4)], "float64"
)

QUICK: list[Case] = GRADIENT.cases("cpu", [Size(1 << 12, 4096, 64)], "float64")
