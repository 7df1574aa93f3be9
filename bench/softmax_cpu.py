"""The tiled gradient beside autograd through all logits: seconds, ratios and extra memory.

Run `python -m bench.softmax_cpu`. Autograd is taken through the definition of the loss and through
torch's fused `cross_entropy`. Calls alternate, so that a busy machine slows all of them.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from memsolve_kernels import softmax_gradient
from torch import Tensor
from torch.nn.functional import cross_entropy

BATCH, ITEMS, ROUNDS = 1024, 32768, 7


@dataclass(frozen=True)
class Inputs:
    queries: Tensor
    outputs: Tensor
    targets: Tensor

    @classmethod
    def random(cls, dim: int) -> "Inputs":
        generator = torch.Generator().manual_seed(0)
        return cls(
            torch.randn(BATCH, dim, generator=generator) * 3,
            torch.randn(ITEMS, dim, generator=generator) / dim**0.5,
            torch.randint(ITEMS, (BATCH,), generator=generator),
        )


def tiled(inputs: Inputs) -> Tensor:
    return softmax_gradient(inputs.queries, inputs.outputs, inputs.targets, backend="torch")[1]


def autograd(inputs: Inputs) -> Tensor:
    queries = inputs.queries.clone().requires_grad_()
    logits = queries @ inputs.outputs.T
    loss = (logits.logsumexp(1) - logits.gather(1, inputs.targets[:, None])[:, 0]).mean()
    return torch.autograd.grad(loss, queries)[0]


def fused(inputs: Inputs) -> Tensor:
    queries = inputs.queries.clone().requires_grad_()
    loss = cross_entropy(queries @ inputs.outputs.T, inputs.targets)
    return torch.autograd.grad(loss, queries)[0]


def seconds(run: Callable[[Inputs], Tensor], inputs: Inputs) -> float:
    start = time.perf_counter()
    run(inputs)
    return time.perf_counter() - start


def extra_bytes(run: Callable[[Inputs], Tensor], inputs: Inputs) -> int:
    """Peak of what torch holds beyond the inputs, from the profiler's allocations."""
    with torch.profiler.profile(profile_memory=True) as profile:
        run(inputs)
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def main() -> None:
    print(
        f"B={BATCH} N={ITEMS} float32, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'d':>4} {'gradient':>14} {'seconds':>8} {'ratio':>6} {'extra MB':>9}")
    runs = {"tiled": tiled, "autograd": autograd, "cross_entropy": fused}
    for dim in (64, 256):
        inputs = Inputs.random(dim)
        for run in (autograd, fused):
            torch.testing.assert_close(tiled(inputs), run(inputs), rtol=1e-3, atol=1e-7)
        rounds = [[seconds(run, inputs) for run in runs.values()] for _ in range(ROUNDS)]
        for column, (name, run) in enumerate(runs.items()):
            taken = statistics.median(times[column] for times in rounds)
            ratio = statistics.median(times[column] / times[0] for times in rounds)
            megabytes = extra_bytes(run, inputs) / 1e6
            print(f"{dim:>4} {name:>14} {taken:>8.3f} {ratio:>6.2f} {megabytes:>9.1f}")


if __name__ == "__main__":
    main()
