"""Partial results of a pass: statistics of some items, in one or more parts."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor


class WeightedPartial(NamedTuple):
    """Exponentials of the others' logits, and outputs weighted by them, over S parts of the items.

    Attributes:
        top: (S, B), the logarithm that a part's exponentials are relative to, in the backend's
            base.
        total: (S, B), their sum.
        norm: (S, B), their sum as rounded for `sums`, which it normalises.
        sums: (S, B, d), outputs weighted by them, in a covariance times the centred component.
    """

    top: Tensor
    total: Tensor
    norm: Tensor
    sums: Tensor

    @classmethod
    def of_no_items(cls, queries: Tensor) -> "WeightedPartial":
        """One part without items, which changes no other part, for queries (B, d)."""
        zeros = queries.new_zeros(1, *queries.shape, dtype=accumulation_dtype(queries.dtype))
        none = zeros.new_zeros(zeros.shape[:2])
        return cls(torch.full_like(none, torch.finfo(none.dtype).min), none, none, zeros)


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

    @classmethod
    def of_no_items(cls, queries: Tensor) -> "RankPartial":
        """One part without items, which changes no other part, for queries (B, d)."""
        dtype = accumulation_dtype(queries.dtype)
        lowest = queries.new_full((1, queries.shape[0]), -torch.inf, dtype=dtype)
        return cls(lowest, lowest, torch.zeros_like(lowest, dtype=torch.int64))


class LogitWeights(NamedTuple):
    """A gradient by the logits, in terms of each item's share of the others' exponentials.

    That by the logit `l` of an item with the share `p` is `p (others + logit * l)`.

    Attributes:
        others: (B,), for a logarithm of the others' sum, its gradient by that.
        target: (B,), the gradient by the target's logit; None is `-others`, as for the log-odds.
        logit: (B,); None is zero.
    """

    others: Tensor
    target: Tensor | None = None
    logit: Tensor | None = None

    def of_rows(self, rows: Tensor | slice) -> "LogitWeights":
        """Those of some queries."""
        target, logit = (None if each is None else each[rows] for each in self[1:])
        return LogitWeights(self.others[rows], target, logit)

    @property
    def at_target(self) -> Tensor:
        """`target`, also where it is None."""
        return -self.others if self.target is None else self.target


class Bias(NamedTuple):
    """A bias of the items that is among their outputs.

    Attributes:
        values: (N,), or this rank's (N_r,).
        column: the first of the outputs that hold it, where every query is one.
    """

    values: Tensor
    column: int


class HvpContext(NamedTuple):
    """Statistics of all items that a covariance along directions needs before its pass.

    Attributes:
        directions: (B, d), rows divided by their scale; None for a backend's own way to take the
            queries.
        scale: (B, 1), factor that restores the product.
        shift: (B,), approximate log of the others' sum; zero in a backend that needs none.
        center: (B,), the others' mean along the direction.
    """

    directions: Tensor | None
    scale: Tensor
    shift: Tensor
    center: Tensor


class OutputsGradient(NamedTuple):
    """A gradient by outputs as autograd takes it.

    Attributes:
        by_outputs: (N, d), in the dtype of the outputs.
        by_bias: (N,), the column of the bias in the dtype of sums; no items without one.
    """

    by_outputs: Tensor
    by_bias: Tensor

    @classmethod
    def rounded(
        cls, gradient: Tensor, dtype: torch.dtype, bias_column: int | None
    ) -> "OutputsGradient":
        """The gradient (N, d) with its column of a bias apart, before it is rounded to `dtype`."""
        if bias_column is None:
            return cls(gradient.to(dtype), gradient.new_empty(0))
        return cls(gradient.to(dtype), gradient[:, bias_column].clone())


Partial = TypeVar("Partial", WeightedPartial, RankPartial)


def merge(partials: Sequence[Partial]) -> Partial:
    """Merge partial results over parts of the items into one, in that order."""
    return type(partials[0])(*map(torch.cat, zip(*partials, strict=True)))


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, losses and gradients: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
