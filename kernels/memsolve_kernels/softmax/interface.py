"""The interface of a backend: passes over the items, each as partial results and a finish.

A partial result covers some of the items, in one or more parts: the share of a program, a chunk, or
the shard of `outputs` that another rank holds. Partial results of one pass are merged by
concatenation (`merge`); a finish combines their parts and accounts for the targets. A backend also
combines parts without a finish (`combine`), so that one part is all that has to be kept or sent. A
target that is not among a partial result's items, such as a negative one or one past the end, is
not excluded there.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from memsolve_kernels.dispatch import Precision, torch_honours
from memsolve_kernels.errors import BackendError
from memsolve_kernels.softmax.partials import (
    HvpContext,
    LogitWeights,
    OutputsGradient,
    Partial,
    RankPartial,
    WeightedPartial,
    accumulation_dtype,
)

Results = TypeVar("Results", Tensor, tuple[Tensor, Tensor, Tensor])


class SoftmaxBackend(ABC):
    """A backend: queries and directions (B, d), outputs (N, d), targets (B,) in int64.

    In a finish, `hvp_context` and `target_logits`, outputs and targets only identify each query's
    own output: where the items are sharded, they may be the own outputs (B, d) and `arange(B)`. A
    finish may overwrite its partial result. Results are in the `accumulation_dtype`.
    """

    name: ClassVar[str]
    indexes_targets: ClassVar[bool] = True
    """Whether targets index a tensor, so that invalid ones must be rejected before the pass."""

    def check(self, dtype: torch.dtype, device: torch.device, precision: Precision | None) -> None:
        """Raise BackendError unless the backend honours the precision for inputs in this dtype."""
        sums = accumulation_dtype(dtype)
        if precision not in (None, "ieee"):
            raise BackendError(
                f"precision={precision!r} needs backend='triton'; backend={self.name!r} computes "
                f"in {sums}"
            )
        if precision == "ieee" and not torch_honours(sums, device, "ieee"):
            raise BackendError(
                f"precision='ieee' cannot be honoured by backend={self.name!r}: torch's "
                "fp32_precision or set_float32_matmul_precision allows less here; reset it, or use "
                "precision=None"
            )

    @abstractmethod
    def target_logits(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each query's logit against its own output (B,)."""

    @abstractmethod
    def partial_odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> WeightedPartial:
        """The exponentials of some items, and their outputs weighted by them."""

    @abstractmethod
    def finish_odds(
        self, partial: WeightedPartial, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,) of the others against the target, its gradient (B, d), and the others.

        The others are described by their exponentials (B, 2): the logarithm that these are relative
        to, in the backend's base, and their sum. A single number would have a rounding error in
        proportion to its size.
        """

    @abstractmethod
    def hvp_context(
        self,
        queries: Tensor,
        directions: Tensor | None,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> HvpContext:
        """The results of `odds` in the form that the covariance along the directions uses.

        Without directions, those are the queries, and their components the logits.
        """

    @abstractmethod
    def partial_covariance(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, context: HvpContext
    ) -> WeightedPartial:
        """Like `partial_odds`, with weights times the centred component along the direction."""

    @abstractmethod
    def finish_covariance(self, partial: WeightedPartial, context: HvpContext) -> Tensor:
        """The Hessian of the log-odds times a direction (B, d): the covariance of the others."""

    @abstractmethod
    def outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        weights: LogitWeights,
        bias_column: int | None = None,
    ) -> Tensor:
        """The gradient by some outputs (N, d), from that by the logits.

        `others` (B, 2) are those of `finish_odds`, of all items. The column of a bias, in which
        every query is one, is a sum in the dtype of sums of weights that are not rounded.
        """

    def rounded_outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        weights: LogitWeights,
        bias_column: int | None,
    ) -> OutputsGradient:
        """`outputs_gradient` in the dtype of the outputs, but for the column of a bias."""
        inputs = queries, outputs, targets, others, weights, bias_column
        gradient = self.outputs_gradient(*inputs)
        return OutputsGradient.rounded(gradient, outputs.dtype, bias_column)

    def entropy_gradients(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
        others: Tensor,
        weights: LogitWeights,
        bias_column: int | None,
    ) -> tuple[Tensor, OutputsGradient]:
        """`covariance` with the logits (B, d), and `rounded_outputs_gradient`."""
        product = self.covariance(queries, None, outputs, targets, log_odds, difference)
        inputs = queries, outputs, targets, others, weights, bias_column
        return product, self.rounded_outputs_gradient(*inputs)

    @abstractmethod
    def partial_ranks(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, target_logit: Tensor
    ) -> RankPartial:
        """Statistics of some items' logits relative to the target's."""

    def finish_ranks(
        self, partial: RankPartial, target_logit: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`(log_odds, target_logit, margin, rank)`, each (B,), with int64 ranks; -1 for NaN."""
        one = partial.log_odds.shape[0] == 1
        log_odds = partial.log_odds[0] if one else partial.log_odds.logsumexp(0)
        spoiled = log_odds.isnan()  # the largest logit may hide a NaN; the log-odds do not
        margin = (target_logit - partial.best.amax(0)).masked_fill_(spoiled, torch.nan)
        return log_odds, target_logit, margin, partial.above.sum(0).masked_fill_(spoiled, -1)

    def combine(self, partial: Partial) -> Partial:
        """All parts as one."""
        if partial[0].shape[0] == 1:
            return partial
        if isinstance(partial, RankPartial):
            log_odds, best = partial.log_odds, partial.best.amax(0, keepdim=True)
            above = partial.above.sum(0, keepdim=True)
            return RankPartial(log_odds.logsumexp(0, keepdim=True), best, above)
        return self.combine_weighted(partial)

    def combine_weighted(self, partial: WeightedPartial) -> WeightedPartial:
        """All parts as one, relative to the largest maximum, in base 2."""
        top = partial.top.amax(0, keepdim=True)
        scale = torch.exp2(partial.top - top)
        total, norm = ((scale * each).sum(0, keepdim=True) for each in partial[1:3])
        sums = (scale[..., None] * partial.sums).sum(0, keepdim=True)
        return WeightedPartial(top, total, norm, sums)

    def query_blocks(self, name: str, queries: Tensor, outputs: Tensor) -> list[slice]:
        """Blocks of queries in which `odds` or `covariance` runs: by default, all at once."""
        return [slice(0, len(queries))]

    def odds(
        self, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,), their gradient (B, d) and the others (B, 2) over all items."""

        def run(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
            inputs = queries[rows], outputs, targets[rows]
            return self.finish_odds(self.partial_odds(*inputs), *inputs)

        return by_blocks(run, self.query_blocks("odds", queries, outputs))

    def covariance(
        self,
        queries: Tensor,
        directions: Tensor | None,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> Tensor:
        """The covariance of all others along the directions (B, d), from the results of `odds`.

        Without directions, along the queries: the covariance of outputs and logits.
        """

        def run(r: slice) -> Tensor:
            along = None if directions is None else directions[r]
            context = self.hvp_context(
                queries[r], along, outputs, targets[r], log_odds[r], difference[r]
            )
            partial = self.partial_covariance(queries[r], outputs, targets[r], context)
            return self.finish_covariance(partial, context)

        return by_blocks(run, self.query_blocks("covariance", queries, outputs))

    def curvature(
        self, queries: Tensor, directions: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-odds, their gradient and `covariance` along directions: (B,), (B, d), (B, d)."""
        log_odds, difference, _ = self.odds(queries, outputs, targets)
        odds = log_odds, difference
        return *odds, self.covariance(queries, directions, outputs, targets, *odds)

    def ranks(
        self, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The statistics of `finish_ranks` over all items."""
        target_logit = self.target_logits(queries, outputs, targets)
        partial = self.partial_ranks(queries, outputs, targets, target_logit)
        return self.finish_ranks(partial, target_logit)


def by_blocks(run: Callable[[slice], Results], blocks: Sequence[slice]) -> Results:
    """Run block by block and write the results, (B, ...) each, into tensors of all rows."""
    if len(blocks) == 1:
        return run(blocks[0])
    complete: tuple[Tensor, ...] = ()
    for rows in blocks:
        results = run(rows)
        each = (results,) if isinstance(results, Tensor) else results
        if not complete:
            complete = tuple(r.new_empty(blocks[-1].stop, *r.shape[1:]) for r in each)
        for target, result in zip(complete, each, strict=True):
            target[rows] = result
    return complete[0] if isinstance(results, Tensor) else complete  # type: ignore[return-value]


def elements_at_once(device: torch.device) -> int:
    """Elements of a tile: 4 MiB in float32 on a CPU, which fit its caches, else 64 MiB."""
    return 2**20 if device.type == "cpu" else 2**24


def in_parts(rows: Tensor) -> tuple[Tensor, ...]:
    """Views of the rows (R, ...), each with at most `elements_at_once`.

    Torch's reductions first convert a tensor whose dtype is not that of the sum, and copy one whose
    strides they cannot read: of a part at a time, the copy is small.
    """
    elements = elements_at_once(rows.device)
    if rows.numel() <= elements:
        return (rows,)
    return torch.split(rows, max(1, elements // math.prod(rows.shape[1:])))


def in_accumulated_parts(rows: Tensor) -> Iterable[Tensor]:
    """The rows (R, ...) in the dtype of sums, a part at a time, each in the memory of the last.

    With new memory for each part the heap of glibc would grow by all of them, although each is
    freed before the next: a freed block is slightly too small for the next aligned one.
    """
    parts, dtype = in_parts(rows), accumulation_dtype(rows.dtype)
    if rows.dtype == dtype:
        return parts
    buffer = rows.new_empty(parts[0].shape, dtype=dtype)
    return (buffer[: part.shape[0]].copy_(part) for part in parts)
