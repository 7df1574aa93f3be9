"""The gradient of an associative memory on batches of every size: what a training step costs.

A batch of `B` draws holds about `B^(1/alpha)` distinct items, and the gradient is taken over those:
flops, `4 U N d` for `U` of them, follow, and so should the time.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.registry import Case, Format, Function, Implementation, Run

ALPHA = 1.5


class Size(NamedTuple):
    B: int
    N: int
    d: int


class Inputs(NamedTuple):
    queries: Tensor
    outputs: Tensor
    items: Tensor
    weights: Tensor
    weight: Tensor


def make_inputs(size: Size, fmt: Format, device: torch.device) -> Inputs:
    """Embeddings, a batch, and a random weight that gives logits of a few units."""
    generator = torch.Generator(device).manual_seed(0)
    shape = 2, size.N, size.d
    embeddings = torch.randn(shape, generator=generator, device=device) / size.d**0.5
    weight = 3 * torch.randn(size.d, size.d, generator=generator, device=device)
    counts = draw_counts(size)
    (items,) = np.nonzero(counts)
    weights = torch.from_numpy(counts[items] / size.B).to(device, fmt.dtype)
    queries, outputs = embeddings.to(fmt.dtype)
    return Inputs(
        queries, outputs, torch.from_numpy(items).to(device), weights, weight.to(fmt.dtype)
    )


def draw_counts(size: Size) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How often each item is in the batch."""
    frequencies = np.arange(1, size.N + 1) ** -ALPHA
    return np.random.default_rng(0).multinomial(size.B, frequencies / frequencies.sum())


def reference(inputs: Inputs) -> Tensor:
    """By all logits, in float64."""
    queries, outputs, items, weights, weight = (
        tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs
    )
    queries = queries[items]
    errors = (queries @ weight.T @ outputs.T).softmax(1)
    errors[torch.arange(len(items)), items] -= 1
    gradient: Tensor = (errors * weights[:, None] @ outputs).T @ queries
    return gradient


def ours(inputs: Inputs) -> Run:
    """`memsolve.AssociativeMemory.gradient`, of a memory with these embeddings."""
    from memsolve import AssociativeMemory, Batch

    num_items, dim = inputs.outputs.shape
    memory = AssociativeMemory(num_items, dim, ALPHA, seed=0, dtype=inputs.outputs.dtype)
    memory.inputs, memory.outputs = inputs.queries, inputs.outputs
    batch = Batch(inputs.items, inputs.weights)
    return lambda: memory.gradient(inputs.weight, batch)


def two_products(inputs: Inputs) -> Run:
    """The products of logits and of their weights with the outputs alone."""
    queries = inputs.queries[inputs.items]
    return lambda: (queries @ inputs.outputs.T) @ inputs.outputs


GRADIENT = Function(
    name="memory_gradient",
    make_inputs=make_inputs,
    reference=reference,
    implementations=(
        Implementation("ours", ours),
        Implementation("two GEMMs", two_products, bound=True),
    ),
    flops=lambda inputs: 4.0 * len(inputs.items) * inputs.outputs.numel(),
    bytes=lambda size, width: 2.0 * width * size.N * size.d,
)

CASES: list[Case] = GRADIENT.cases(
    "cpu", [Size(1 << octave, 4096, 64) for octave in range(8, 25, 4)], "float64"
)

QUICK: list[Case] = GRADIENT.cases("cpu", [Size(1 << 14, 1024, 64)], "float64")
