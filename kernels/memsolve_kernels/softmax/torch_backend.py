"""The torch backend: any device, one tile of logits at a time, never a B x N matrix.

Exponentials are to base 2, which torch computes about three times as fast as base e; the queries
carry the factor log2(e).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memsolve_kernels.softmax.copies import hash_rows, labels
from memsolve_kernels.softmax.headroom import find_headroom
from memsolve_kernels.softmax.interface import SoftmaxBackend, in_parts
from memsolve_kernels.softmax.partials import (
    HvpContext,
    LogitWeights,
    OutputsGradient,
    RankPartial,
    WeightedPartial,
    accumulation_dtype,
)
from memsolve_kernels.softmax.torch_tiles import (
    LOG2_E,
    MIN_ITEMS,
    ROWS,
    Tile,
    items_in_tile,
    iterate_tiles,
    row_blocks,
)

COUNTED = 2**18  # elements that are counted at a time


@dataclass(frozen=True)
class TorchBackend(SoftmaxBackend):
    """Every partial result has one part.

    Attributes:
        items: in a tile, which affects rounding only; by default, what suits the device.
    """

    name: ClassVar[str] = "torch"
    items: int | None = None

    def target_logits(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Row by row (B,)."""
        return _row_dot(queries, outputs[targets])

    def partial_odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> WeightedPartial:
        """An online softmax: the largest logit so far is subtracted, where this is needed."""
        queries = queries.to(accumulation_dtype(queries.dtype))
        headroom = find_headroom(queries, outputs)
        totals, sums = queries.new_zeros(queries.shape[0], 1), queries.new_zeros(queries.shape)
        tops = torch.zeros_like(totals) if headroom is None else _lowest(totals)
        for rows in row_blocks(queries):
            top, total, weighted = tops[rows], totals[rows], sums[rows]
            inputs = queries[rows], outputs, targets[rows]
            for values, logits, *_ in iterate_tiles(*inputs, self.items, LOG2_E):
                if headroom is not None:
                    risen = torch.maximum(top, logits.amax(1, keepdim=True) + headroom)
                    decay = torch.exp2(top - risen)
                    total.mul_(decay)
                    weighted.mul_(decay)
                    logits.sub_(risen)
                    top = risen
                weights = logits.exp2_()
                total.add_(weights.sum(1, keepdim=True))
                weighted.addmm_(weights, values)
            tops[rows] = top
        tops.masked_fill_(totals == 0, torch.finfo(tops.dtype).min)  # without others: no effect
        return WeightedPartial(tops.T, totals.T, totals.T, sums[None])

    def finish_odds(
        self, partial: WeightedPartial, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,), its gradient, the difference (B, d), and the others (B, 2)."""
        total, own = self.combine(partial), outputs[targets]
        log_odds = (total.top + total.total.log2())[0] / LOG2_E - _row_dot(queries, own)
        others = torch.stack((total.top[0], total.total[0]), 1)
        return log_odds, _mean(total).sub_(own), others

    def hvp_context(
        self,
        queries: Tensor,
        directions: Tensor | None,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> HvpContext:
        """The shift follows from the log-odds, so that one pass suffices."""
        own = outputs[targets]
        center = _row_dot(queries if directions is None else directions, difference + own)
        log_others = log_odds + _row_dot(queries, own)
        shift = log_others.clamp_min_(torch.finfo(center.dtype).min / 2).mul_(LOG2_E)
        directions = None if directions is None else directions.to(difference.dtype)
        return HvpContext(directions, torch.ones_like(center)[:, None], shift, center)

    def partial_covariance(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, context: HvpContext
    ) -> WeightedPartial:
        """Sums are normalised again: the log-odds carry a rounding error common to the row."""
        queries = queries.to(accumulation_dtype(queries.dtype))
        shift, center = context.shift[:, None], context.center[:, None]
        totals, sums = torch.zeros_like(shift), queries.new_zeros(queries.shape)
        for rows in row_blocks(queries):
            total, weighted = totals[rows], sums[rows]
            inputs = queries[rows], outputs, targets[rows]
            for tile in iterate_tiles(*inputs, self.items, LOG2_E):
                along = _centred(tile, context.directions, rows, center[rows])
                weights = tile.logits.sub_(shift[rows]).exp2_()
                total.add_(weights.sum(1, keepdim=True))
                weighted.addmm_(weights.mul_(along), tile.values)
                del along  # before the next
        return WeightedPartial(shift.T, totals.T, totals.T, sums[None])

    def finish_covariance(self, partial: WeightedPartial, context: HvpContext) -> Tensor:
        """The Hessian of the log-odds times a direction (B, d)."""
        return _mean(self.combine(partial))

    def outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        weights: LogitWeights,
        bias_column: int | None = None,
    ) -> Tensor:
        """Tile by tile of the items, each by its softmax minus one at the targets.

        The queries are divided by the others' sum. Without a shift (`top` is zero) that sum may be
        too large or too small, so its power of two becomes the shift. For the log-odds alone the
        queries carry the weights.
        """
        queries = queries.to(accumulation_dtype(queries.dtype))
        shift, total = _shift_and_total(others)
        for_log_odds = weights.target is None and weights.logit is None
        if for_log_odds:
            weighted, own = queries * (weights.others[:, None] / total), -total[:, 0]
        else:
            weighted, own = queries, weights.at_target
            weights = _divided(weights, total[:, 0])
        gradient = queries.new_zeros(outputs.shape)
        for rows in row_blocks(queries):
            inputs = queries[rows], outputs, targets[rows]
            for tile in iterate_tiles(*inputs, self.items, LOG2_E):
                factors = None if for_log_odds else _factors(tile, weights, rows)
                shares = tile.logits.sub_(shift[rows]).exp2_()
                if factors is not None:
                    shares.mul_(factors)
                    del factors  # before the next
                shares[tile.own] = own[rows][tile.own[0]]
                gradient[tile.items].addmm_(shares.T, weighted[rows])
        return gradient

    def rounded_outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        weights: LogitWeights,
        bias_column: int | None,
    ) -> OutputsGradient:
        """Like the base method; in half precision, a part of the items at a time."""

        def run(first: int, part: Tensor) -> Tensor:
            return self.outputs_gradient(queries, part, targets - first, others, weights)

        return _rounded_by_parts(run, outputs, others.dtype, bias_column)

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
        """In one pass, whose logits serve both: 6BNd flops."""
        queries = queries.to(log_odds.dtype)
        center = _row_dot(queries, difference + outputs[targets])
        shift, total = _shift_and_total(others)
        divided = _divided(weights, total[:, 0])
        assert divided.logit is not None
        slope = divided.logit[:, None]
        at_center = torch.addcmul(divided.others[:, None], slope, center[:, None])
        sums, items = queries.new_zeros(queries.shape), self._fewer_items(queries, outputs)

        def add_part(first: int, outputs: Tensor) -> Tensor:
            gradient = queries.new_zeros(outputs.shape)
            for rows in row_blocks(queries):
                inputs = queries[rows], outputs, targets[rows] - first
                for tile in iterate_tiles(*inputs, items, LOG2_E):
                    along = _centred(tile, None, rows, center[rows, None])
                    shares = tile.logits.sub_(shift[rows]).exp2_()
                    sums[rows].addmm_(along.mul_(shares), tile.values)
                    shares.mul_(at_center[rows]).addcmul_(along, slope[rows])
                    shares[tile.own] = divided.at_target[rows][tile.own[0]]
                    gradient[tile.items].addmm_(shares.T, queries[rows])
                    del along  # before the next
            return gradient

        gradient = _rounded_by_parts(add_part, outputs, queries.dtype, bias_column)
        return sums.div_(total), gradient

    def partial_ranks(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, target_logit: Tensor
    ) -> RankPartial:
        """Logits stay in base e, so that products of small integers are exact, and ties remain."""
        queries = queries.to(accumulation_dtype(queries.dtype))
        own, copied = target_logit[:, None], labels(outputs, targets, queries.dtype)
        log_odds, bests = torch.empty_like(own), torch.empty_like(own)
        above = torch.zeros_like(own, dtype=torch.int64)
        for rows in row_blocks(queries):
            ours = own[rows]
            total, top = torch.zeros_like(ours), _lowest(ours)
            best, count = torch.full_like(ours, -torch.inf), above[rows]
            for tile in iterate_tiles(queries[rows], outputs, targets[rows], self.items):
                logits = tile.logits if copied is None else _tied(tile, ours, copied[rows])
                count += _count_above(logits, ours)
                best = torch.maximum(best, logits.amax(1, keepdim=True))
                risen = torch.maximum(top, best)
                total.mul_(torch.exp2((top - risen) * LOG2_E))
                total.add_(logits.sub_(risen).mul_(LOG2_E).exp2_().sum(1, keepdim=True))
                top = risen
            log_odds[rows], bests[rows] = top + total.log() - ours, best
        return RankPartial(log_odds.T, bests.T, above.T)

    def _fewer_items(self, queries: Tensor, outputs: Tensor) -> int:
        """A quarter of the items in a tile, where a pass has two tiles and writes two results."""
        return self.items or max(MIN_ITEMS, items_in_tile(queries[:ROWS], outputs) // 4)


def _rounded_by_parts(
    run: Callable[[int, Tensor], Tensor],
    outputs: Tensor,
    dtype: torch.dtype,
    bias_column: int | None,
) -> OutputsGradient:
    """The gradient by outputs, rounded if they are not in `dtype`, by parts then.

    Args:
        run: of the number of a part's first item and its outputs; its gradient in `dtype`.
        outputs: (N, d).
        dtype: of the sums.
        bias_column: of the outputs, or None.
    """
    if outputs.dtype == dtype:
        return OutputsGradient.rounded(run(0, outputs), dtype, bias_column)
    items = 0 if bias_column is None else outputs.shape[0]
    by_bias = outputs.new_empty(items, dtype=dtype)
    gradient, start = outputs.new_empty(outputs.shape), 0
    for part in in_parts(outputs):
        rows = slice(start, start + part.shape[0])
        gradient[rows], by_bias[rows] = OutputsGradient.rounded(
            run(start, part), outputs.dtype, bias_column
        )
        start = rows.stop
    return OutputsGradient(gradient, by_bias)


def _centred(tile: Tile, directions: Tensor | None, rows: slice, center: Tensor) -> Tensor:
    """Components of the tile's outputs along the directions, minus their mean (R, T)."""
    if directions is not None:
        return torch.mm(directions[rows], tile.values.T).sub_(center)
    along = tile.logits.div(LOG2_E).sub_(center)
    along[tile.own] = 0  # of weight zero, which times -inf is NaN
    return along


def _shift_and_total(others: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithm and sum (B, 1) of the others, which neither overflows nor underflows."""
    top, total = others[:, :1], others[:, 1:]
    exponent = total.frexp().exponent.masked_fill(top != 0, 0)
    total = torch.ldexp(total, -exponent)
    return top + exponent, total.masked_fill(total == 0, 1)  # without others no item has a weight


def _divided(weights: LogitWeights, total: Tensor) -> LogitWeights:
    logit = None if weights.logit is None else weights.logit / total
    return weights._replace(others=weights.others / total, logit=logit)


def _factors(tile: Tile, weights: LogitWeights, rows: slice) -> Tensor:
    """Factors of the tile's shares in the gradient by its logits: (R, T), or (R, 1)."""
    others = weights.others[rows, None]
    if weights.logit is None:
        return others
    return torch.addcmul(others, tile.logits, weights.logit[rows, None], value=1 / LOG2_E)


def _mean(single: WeightedPartial) -> Tensor:
    """The weighted mean (B, d) of a single part: zero, not NaN, without others."""
    norm = single.norm[0, :, None].clamp_min(torch.finfo(single.norm.dtype).tiny)
    return single.sums[0].div_(norm)


def _row_dot(rows: Tensor, others: Tensor) -> Tensor:
    return (rows.to(accumulation_dtype(rows.dtype)) * others).sum(1)


def _count_above(logits: Tensor, own: Tensor) -> Tensor:
    """How many of each row's logits (R, T) exceed its own (R, 1), in int64.

    Counting in floats is several times as fast as in booleans, and exact in a tile. Parts are small
    because a second complete tile would be returned to the system and allocated again in each call.
    """
    counts = torch.zeros_like(own)
    for part in logits.split(max(1, COUNTED // own.shape[0]), dim=1):
        counts += torch.gt(part, own, out=torch.empty_like(part)).sum(1, keepdim=True)
    return counts.long()


def _tied(tile: Tile, own: Tensor, copied: Tensor) -> Tensor:
    """The tile's logits (R, T), with `own` where an output has the hash `copied` (R,)."""
    same = copied[:, None] == hash_rows(tile.values)
    same[tile.own] = False
    return torch.where(same, own, tile.logits)


def _lowest(like: Tensor) -> Tensor:
    """The start of a running maximum: finite, so that -inf minus it is not NaN."""
    return torch.full_like(like, torch.finfo(like.dtype).min)
