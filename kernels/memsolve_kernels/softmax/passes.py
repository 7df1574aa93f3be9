"""What a backend supplies: passes over the items, each in partial results and a finish.

A partial result is of some of the items, in one or more parts: a processor's share, a chunk, or the
shard of `outputs` that another rank holds. Those of one pass are merged by concatenation (`merge`),
and a finish makes them one and takes the targets back in. A target that is not among a partial's
items, as a negative one or one past the end, is just not left out there.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor


class WeightedPartial(NamedTuple):
    """Exponentials of the others' logits, and outputs weighted by them, over S parts of the items.

    Attributes:
        top: (S, B), the logarithm to which a part's exponentials are relative, in the base that the
            backend exponentiates.
        total: (S, B), their sum.
        norm: (S, B), their sum as rounded for `sums`, which it normalises.
        sums: (S, B, d), outputs weighted by them, in a covariance times the centred component.
    """

    top: Tensor
    total: Tensor
    norm: Tensor
    sums: Tensor


class RankPartial(NamedTuple):
    """Statistics of the others' logits over S parts of the items.

    Attributes:
        log_odds: (S, B), of the part's others against the target.
        best: (S, B), their largest logit.
        above: (S, B), how many exceed the target's, int64.
    """

    log_odds: Tensor
    best: Tensor
    above: Tensor


class Aim(NamedTuple):
    """What a covariance needs to know of all items before it looks at some.

    Attributes:
        directions: (B, d), rows divided by their scale.
        scale: (B, 1), what brings the product back.
        shift: (B,), about the log of the others' sum; zero in a backend that needs none.
        center: (B,), the others' mean along the direction.
    """

    directions: Tensor
    scale: Tensor
    shift: Tensor
    center: Tensor


Partial = TypeVar("Partial", WeightedPartial, RankPartial)


def merge(partials: Sequence[Partial]) -> Partial:
    """Partial results over parts of the items as one over all of them, in that order."""
    return type(partials[0])(*map(torch.cat, zip(*partials, strict=True)))


class Passes(ABC):
    """A backend: queries and directions (B, d), outputs (N, d), targets (B,) in int64.

    To a finish, `aim` and `target_logits`, outputs and targets say what each query's own output is:
    where the items are shared out, those may be the own outputs (B, d) and `arange(B)`. A finish
    may overwrite its partial result. Results are in the `accumulation_dtype`.
    """

    indexes_targets: ClassVar[bool] = True
    """Whether targets index a tensor, so that one that is no item has to be refused before."""

    @abstractmethod
    def target_logits(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each query's logit against its own output (B,)."""

    @abstractmethod
    def partial_odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> WeightedPartial:
        """The exponentials of some items, and those outputs weighted by them."""

    @abstractmethod
    def finish_odds(
        self, partial: WeightedPartial, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,) of the others against the target, its gradient (B, d), and the others.

        The latter are their exponentials (B, 2): the logarithm to which they are relative, in the
        base that the backend exponentiates, and their sum. One number would be rounded by as much
        as it is large.
        """

    @abstractmethod
    def aim(
        self,
        queries: Tensor,
        directions: Tensor,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> Aim:
        """What `odds` found, as the covariance along the directions uses it."""

    @abstractmethod
    def partial_covariance(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, aim: Aim
    ) -> WeightedPartial:
        """As `partial_odds`, weighted by the component along the direction less the center too."""

    @abstractmethod
    def finish_covariance(self, partial: WeightedPartial, aim: Aim) -> Tensor:
        """The Hessian of the log-odds times a direction (B, d): the covariance of the others."""

    @abstractmethod
    def outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        by_log_odds: Tensor,
    ) -> Tensor:
        """The gradient by some outputs (N, d) of what has `by_log_odds` (B,) by the log-odds.

        `others` (B, 2) are those of `finish_odds`, of all items.
        """

    def rounded_outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        by_log_odds: Tensor,
    ) -> Tensor:
        """`outputs_gradient` in the dtype of the outputs, as autograd returns it."""
        gradient = self.outputs_gradient(queries, outputs, targets, others, by_log_odds)
        return gradient.to(outputs.dtype)

    @abstractmethod
    def partial_ranks(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, target_logit: Tensor
    ) -> RankPartial:
        """How some items' logits compare with the target's."""

    def finish_ranks(
        self, partial: RankPartial, target_logit: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`(log_odds, target_logit, margin, rank)`, each (B,), rank int64 and -1 beside a NaN."""
        one = partial.log_odds.shape[0] == 1
        log_odds = partial.log_odds[0] if one else partial.log_odds.logsumexp(0)
        spoiled = log_odds.isnan()  # the largest logit may hide a NaN; the log-odds do not
        margin = (target_logit - partial.best.amax(0)).masked_fill_(spoiled, torch.nan)
        return log_odds, target_logit, margin, partial.above.sum(0).masked_fill_(spoiled, -1)

    def odds(
        self, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,), their gradient (B, d) and the others (B, 2) over all items."""
        partial = self.partial_odds(queries, outputs, targets)
        return self.finish_odds(partial, queries, outputs, targets)

    def covariance(
        self,
        queries: Tensor,
        directions: Tensor,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> Tensor:
        """The covariance of all others along the directions (B, d), from what `odds` gave."""
        aim = self.aim(queries, directions, outputs, targets, log_odds, difference)
        return self.finish_covariance(self.partial_covariance(queries, outputs, targets, aim), aim)

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


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, losses and gradients: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
