"""Plain torch, one tile of logits at a time: any device, no kernel, never a B x N matrix.

A tile of logits is written by one matrix product, exponentiated in place, and read by the next.
On a CPU it should stay in cache in between, and yet be worth the start of two threads for each of
about eight operations: 1024 queries x 1024 items in float32 are 4 MiB. On a GPU launches cost more
than memory traffic, so tiles are as large as 64 MiB.

Exponentials are to base 2, which torch computes about three times as fast as base e; the queries
carry the factor log2(e).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.softmax.precision import accumulation_dtype

LOG2_E = math.log2(math.e)
ROWS = 1024  # queries in a tile at most
MIN_ITEMS = 256  # items in a tile at least
LARGEST_EXPONENT = 96  # 2**96 summed over 2**30 items fits float32, and 2**-96 is a normal number


class _Tile(NamedTuple):
    values: Tensor  # (T, d), the tile's outputs in the dtype of the sums
    logits: Tensor  # (R, T), a buffer that the next tile reuses; -inf at the targets


def odds(
    queries: Tensor, outputs: Tensor, targets: Tensor, items: int | None = None
) -> tuple[Tensor, Tensor]:
    """The log-odds (B,) of the others against the target and its gradient (B, d).

    The softmax is online: the largest logit so far is subtracted. Where no logit can be large, by
    the norms, that is left out. `items`, the number of items in a tile, changes rounding only.
    """
    queries = queries.to(accumulation_dtype(queries.dtype))
    log_odds, difference = queries.new_empty(len(queries)), queries.new_zeros(queries.shape)
    large = bool(_norms(queries) * _norms(outputs) * LOG2_E > LARGEST_EXPONENT)
    for rows in _row_blocks(queries):
        total, mean = queries.new_zeros(len(targets[rows]), 1), difference[rows]
        top = _lowest(total) if large else torch.zeros_like(total)
        for values, logits in _tiles(queries[rows] * LOG2_E, outputs, targets[rows], items):
            if large:
                risen = torch.maximum(top, logits.amax(1, keepdim=True))
                decay = torch.exp2(top - risen)
                total.mul_(decay)
                mean.mul_(decay)
                logits.sub_(risen)
                top = risen
            weights = logits.exp2_()
            total.add_(weights.sum(1, keepdim=True))
            mean.addmm_(weights, values)
        own = outputs[targets[rows]]
        log_odds[rows] = (top + total.log2())[:, 0] / LOG2_E - (queries[rows] * own).sum(1)
        mean.div_(total.clamp_min(torch.finfo(total.dtype).tiny))  # no other: zero, not NaN
        mean.sub_(own)
    return log_odds, difference


def covariance(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    log_odds: Tensor,
    difference: Tensor,
    items: int | None = None,
) -> Tensor:
    """The Hessian of the log-odds times a direction, (B, d): the covariance of the others.

    `log_odds` and `difference` are those of `odds`, so that one pass suffices. Sums are normalised
    anew, since the log-odds carry a rounding error common to the whole row.
    """
    dtype = difference.dtype
    queries, directions, own = queries.to(dtype), directions.to(dtype), outputs[targets].to(dtype)
    center = (directions * (difference + own)).sum(1, keepdim=True)
    log_others = log_odds[:, None] + (queries * own).sum(1, keepdim=True)
    shift = log_others.clamp_min(torch.finfo(dtype).min / 2) * LOG2_E
    product, total = difference.new_zeros(difference.shape), torch.zeros_like(center)
    for rows in _row_blocks(queries):
        for values, logits in _tiles(queries[rows] * LOG2_E, outputs, targets[rows], items):
            weights = logits.sub_(shift[rows]).exp2_()
            total[rows] += weights.sum(1, keepdim=True)
            weights.mul_(torch.mm(directions[rows], values.T).sub_(center[rows]))
            product[rows].addmm_(weights, values)
    return product.div_(total.clamp_min(torch.finfo(dtype).tiny))


def ranks(
    queries: Tensor, outputs: Tensor, targets: Tensor, items: int | None = None
) -> tuple[Tensor, ...]:
    """`(log_odds, target_logit, margin, rank)`, each (B,), rank in int64.

    Logits keep base e here, so that products of small integers stay exact and ties stay ties.
    """
    queries = queries.to(accumulation_dtype(queries.dtype))
    target_logit = (queries * outputs[targets]).sum(1)
    log_odds, margin = torch.empty_like(target_logit), torch.empty_like(target_logit)
    rank = torch.empty_like(targets)
    for rows in _row_blocks(queries):
        total = target_logit.new_zeros(len(targets[rows]), 1)
        top, above = _lowest(total), torch.zeros_like(total, dtype=torch.int64)
        best = torch.full_like(total, -torch.inf)
        for _, logits in _tiles(queries[rows], outputs, targets[rows], items):
            # counting in floats is several times as fast as in booleans, and exact within a tile
            ones = torch.gt(logits, target_logit[rows, None], out=torch.empty_like(logits))
            above.add_(ones.sum(1, keepdim=True).long())
            del ones  # before the next tile makes its own
            best = torch.maximum(best, logits.amax(1, keepdim=True))
            risen = torch.maximum(top, best)
            total.mul_(torch.exp2((top - risen) * LOG2_E))
            total.add_(logits.sub_(risen).mul_(LOG2_E).exp2_().sum(1, keepdim=True))
            top = risen
        log_odds[rows] = (top + total.log())[:, 0] - target_logit[rows]
        margin[rows], rank[rows] = target_logit[rows] - best[:, 0], above[:, 0]
    return log_odds, target_logit, margin, rank


def _norms(rows: Tensor) -> Tensor:
    """The largest norm of a row, zero if there is none."""
    dtype = accumulation_dtype(rows.dtype)
    return torch.linalg.vector_norm(rows, dim=1, dtype=dtype).max() if len(rows) else rows.sum()


def _lowest(like: Tensor) -> Tensor:
    """Where a running maximum starts: finite, so that -inf minus it is not NaN."""
    return torch.full_like(like, torch.finfo(like.dtype).min)


def _row_blocks(queries: Tensor) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, len(queries), ROWS))


def _tiles(queries: Tensor, outputs: Tensor, targets: Tensor, items: int | None) -> Iterator[_Tile]:
    """The logits of every item in turn, a tile at a time, with -inf at the targets."""
    if items is None:
        elements = 2**20 if queries.device.type == "cpu" else 2**24
        items = max(MIN_ITEMS, elements // len(queries))
    starts = range(0, len(outputs), items)
    order = targets.argsort()
    edges = torch.tensor([*starts, len(outputs)], device=targets.device)
    bounds = torch.searchsorted(targets[order], edges).tolist()
    buffer = queries.new_empty(len(queries) * min(items, len(outputs)))
    for tile, start in enumerate(starts):
        values = outputs[start : start + items].to(queries.dtype)
        logits = buffer[: len(queries) * len(values)].view(len(queries), len(values))
        torch.mm(queries, values.T, out=logits)
        own = order[bounds[tile] : bounds[tile + 1]]
        logits[own, targets[own] - start] = -torch.inf
        yield _Tile(values, logits)
