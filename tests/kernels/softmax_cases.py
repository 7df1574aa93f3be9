"""Inputs and truths that the softmax tests share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import memsolve_kernels as mk
import mpmath  # type: ignore[import-untyped]
import torch
from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.softmax.interface import SoftmaxBackend
from memsolve_kernels.softmax.partials import Partial, RankPartial, WeightedPartial, merge
from torch import Tensor
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Case:
    """The arguments of `softmax_loss`."""

    queries: Tensor
    outputs: Tensor
    targets: Tensor
    weights: Tensor

    @classmethod
    def random(
        cls,
        batch: int,
        items: int,
        dim: int,
        *,
        dtype: torch.dtype = torch.float64,
        scale: float = 1.0,
        seed: int = 0,
    ) -> "Case":
        """Unit-norm outputs, queries that give logits of standard deviation `scale`."""
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(batch + items, dim, generator=generator, dtype=torch.float64)
        weights = torch.rand(batch, generator=generator, dtype=torch.float64)
        return cls(
            queries=(scale * normal[:batch]).to(dtype),
            outputs=(normal[batch:] / dim**0.5).to(dtype),
            targets=torch.randint(items, (batch,), generator=generator),
            weights=weights.to(dtype),
        )

    @property
    def args(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.queries, self.outputs, self.targets, self.weights

    def to(self, dtype: torch.dtype) -> "Case":
        q, v, _, w = (tensor.to(dtype) for tensor in self.args)
        return replace(self, queries=q, outputs=v, weights=w)

    def on(self, device: str) -> "Case":
        return Case(*(tensor.to(device) for tensor in self.args))

    def at_margin(self, margin: float) -> "Case":
        """Outputs of unit norm, queries along the target's output; rows of about that margin."""
        outputs = torch.nn.functional.normalize(self.outputs)
        own = outputs[self.targets]
        unit = mk.retrieval(own, outputs, self.targets).margin[:, None]
        return replace(self, queries=(own * margin / unit).to(own.dtype), outputs=outputs)


def autograd(case: Case, directions: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Loss, gradient and Hessian product as torch computes them, in the precision of the case."""
    queries = case.queries.detach().clone().requires_grad_()
    rows = cross_entropy(queries @ case.outputs.T, case.targets, reduction="none")
    loss = rows @ case.weights
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    product = None
    if directions is not None:
        (product,) = torch.autograd.grad((gradient * directions).sum(), queries)
    return loss.detach(), gradient.detach(), product


def gradients(case: Case, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
    """The loss of queries and outputs and its gradients by both."""
    queries, outputs = (each.clone().requires_grad_() for each in (case.queries, case.outputs))
    value = loss(queries, outputs)
    return value.detach(), *torch.autograd.grad(value, (queries, outputs))


def ours(
    case: Case, backend: BackendName | None = None, precision: Precision | None = None
) -> tuple[Tensor, ...]:
    """Loss and gradients by queries and outputs."""

    def loss(queries: Tensor, outputs: Tensor) -> Tensor:
        return mk.softmax_loss(
            queries, outputs, case.targets, case.weights, backend=backend, precision=precision
        )

    return gradients(case, loss)


def by_torch(case: Case) -> tuple[Tensor, ...]:
    """As `ours`, by autograd through all logits in the precision of the case."""

    def loss(queries: Tensor, outputs: Tensor) -> Tensor:
        rows = cross_entropy(queries @ outputs.T, case.targets, reduction="none")
        return rows @ case.weights

    return gradients(case, loss)


def run_all(run: SoftmaxBackend, case: Case) -> tuple[Tensor, ...]:
    """Odds, covariance along the reversed queries, and ranks of all items at once."""
    q, v, y, _ = case.args
    *odds, _ = run.odds(q, v, y)
    return *odds, run.covariance(q, q.flip(0), v, y, *odds), *run.ranks(q, v, y)


def by_parts(run: SoftmaxBackend, case: Case, cuts: list[int]) -> tuple[Tensor, ...]:
    """The results of `run_all` from parts of the items, which exchange what shards would.

    Some parts have no items. Two parts are combined before they are merged with the others.
    """
    q, v, y, _ = case.args
    edges = [0, *sorted(cut % len(v) for cut in cuts), len(v)]
    parts = [(v[start:stop], y - start) for start, stop in pairwise(edges)]

    def merged(evaluate: Callable[..., Partial], none: Partial, *args: Any) -> Partial:
        partials: list[Partial] = [
            evaluate(q, *part, *args) if len(part[0]) else none for part in parts
        ]
        partials[:2] = [run.combine(merge(partials[:2]))]
        return merge(partials)

    own = v[y], torch.arange(len(y), device=y.device)  # from the ranks that have them
    none = WeightedPartial.of_no_items(q)
    *odds, _ = run.finish_odds(merged(run.partial_odds, none), q, *own)
    context = run.hvp_context(q, q.flip(0), *own, *odds)
    sums = merged(run.partial_covariance, none, context)
    logit = run.target_logits(q, *own)
    ranks = merged(run.partial_ranks, RankPartial.of_no_items(q), logit)
    return *odds, run.finish_covariance(sums, context), *run.finish_ranks(ranks, logit)


def exact_rows(case: Case, digits: int = 60) -> tuple[list[Any], list[list[Any]]]:
    """Loss and gradient of each row with many digits, straight from the definition."""
    with mpmath.workdps(digits):
        outputs = mpmath.matrix(case.outputs.tolist())
        losses, gradients = [], []
        for query, target in zip(case.queries.tolist(), case.targets.tolist(), strict=True):
            logits = outputs * mpmath.matrix(query)
            powers = [mpmath.exp(logit) for logit in logits]
            total = mpmath.fsum(powers)
            losses.append(mpmath.log(total) - logits[target])
            weights = [power / total for power in powers]
            weights[target] -= 1
            gradients.append(list(mpmath.matrix([weights]) * outputs))
    return losses, gradients


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Norm of the difference over the norm of the truth, in float64."""
    truth = truth.double()
    return float((value.double() - truth).norm() / truth.norm())
