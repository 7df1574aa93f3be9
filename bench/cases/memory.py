"""The gradient of an associative memory on batches of every size: what a training step costs.

A batch of `B` draws holds about `B^(1/alpha)` distinct items, and the gradient is taken over those:
flops follow them, `4 U N d`, and so should the time.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.registry import Case, Format, Function, Run, Way, lookup

ALPHA = 1.5


class Size(NamedTuple):
    B: int
    N: int
    d: int


class Inputs(NamedTuple):
    inputs: Tensor
    outputs: Tensor
    items: Tensor
    weights: Tensor
    weight: Tensor


def inputs(size: Size, form: Format, device: torch.device) -> Inputs:
    """Embeddings, a batch, and a random weight that gives logits of a few units."""
    generator = torch.Generator(device).manual_seed(0)
    shape = 2, size.N, size.d
    embeddings = torch.randn(shape, generator=generator, device=device) / size.d**0.5
    weight = 3 * torch.randn(size.d, size.d, generator=generator, device=device)
    counts = drawn(size)
    (items,) = np.nonzero(counts)
    weights = torch.from_numpy(counts[items] / size.B).to(device, form.dtype)
    queries, outputs = embeddings.to(form.dtype)
    return Inputs(
        queries, outputs, torch.from_numpy(items).to(device), weights, weight.to(form.dtype)
    )


def drawn(size: Size) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How often each item is in the batch."""
    frequencies = np.arange(1, size.N + 1) ** -ALPHA
    return np.random.default_rng(0).multinomial(size.B, frequencies / frequencies.sum())


def reference(given: Inputs) -> Tensor:
    """By all logits, in float64."""
    queries, outputs, items, weights, weight = (
        tensor.double() if tensor.is_floating_point() else tensor for tensor in given
    )
    queries = queries[items]
    errors = (queries @ weight.T @ outputs.T).softmax(1)
    errors[torch.arange(len(items)), items] -= 1
    gradient: Tensor = (errors * weights[:, None] @ outputs).T @ queries
    return gradient


def ours(given: Inputs) -> Run:
    """`memsolve.AssociativeMemory.gradient`, of a memory with these embeddings."""
    make, batch = lookup("memsolve:AssociativeMemory"), lookup("memsolve:Batch")
    memory = make(*given.outputs.shape, ALPHA, seed=0, dtype=given.outputs.dtype)
    memory.inputs, memory.outputs = given.inputs, given.outputs
    items = batch(given.items, given.weights)
    return lambda: memory.gradient(given.weight, items)


def two_products(given: Inputs) -> Run:
    """The products of logits and of their weights with the outputs, and nothing else."""
    queries = given.inputs[given.items]
    return lambda: (queries @ given.outputs.T) @ given.outputs


GRADIENT = Function(
    name="memory_gradient",
    inputs=inputs,
    reference=reference,
    ways=(Way("ours", ours), Way("two GEMMs", two_products, bound=True)),
    items=lambda size: int(np.count_nonzero(drawn(size))),
    flops=lambda given: 4.0 * len(given.items) * given.outputs.numel(),
    bytes=lambda size, width: 2.0 * width * size.N * size.d,
)

CASES: list[Case] = GRADIENT.cases(
    "cpu", [Size(1 << octave, 4096, 64) for octave in range(8, 25, 4)], "float64"
)

QUICK: list[Case] = GRADIENT.cases("cpu", [Size(1 << 14, 1024, 64)], "float64")
