"""A digest of the bits of tensors, by which ranks find out that theirs differ."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from memsolve_kernels.softmax.interface import in_parts

_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # odd, and 2^64 over the golden ratio
_ROUNDS = (30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64)


def digest(tensors: Iterable[Tensor | None]) -> Tensor:
    """An integer (), int64, on the tensors' device, from their bits, order and places in them.

    Every row is multiplied by pseudo-random odd keys of its columns, and its sum mixed with its
    number. Different tensors have the same digest with a probability of about 2^-32, unless they
    were made to.

    Args:
        tensors: (B, ...), of a dtype without indirection, or None; the first is a tensor.
    """
    first, *others = tensors
    assert first is not None
    result = _digest_rows(first)
    for tensor in others:
        result = _mix(result + _GOLDEN)
        if tensor is not None:
            result += _digest_rows(tensor)
    return result


def _digest_rows(rows: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.int64, device=rows.device)
    if rows.numel() == 0:
        return total
    start = 0
    for part in in_parts(rows.detach()):
        words = _words(part)
        sums = (words * (_keys(0, words.shape[1], rows.device) | 1)).sum(1)
        total += _mix(sums + _keys(start, len(words), rows.device)).sum()
        start += len(words)
    return total


def _words(rows: Tensor) -> Tensor:
    """The bits of rows (R, ...) as integers (R, columns), int64, of at most 32 bits each."""
    size = rows.element_size()
    columns = math.prod(rows.shape[1:]) * max(1, size // 4)
    words = rows.contiguous().view(-1).view(_WORDS[size]).view(len(rows), columns)
    return words.long()


def _keys(start: int, count: int, device: torch.device) -> Tensor:
    """Pseudo-random integers (count,), by their numbers from `start`."""
    return _mix(_GOLDEN * torch.arange(start + 1, start + count + 1, device=device))


def _mix(values: Tensor) -> Tensor:
    """Other integers for other values, int64: the finalizer of SplitMix64 (Steele et al., 2014)."""
    for shift, factor in _ROUNDS:
        values = (values ^ _shift_right(values, shift)) * factor
    return values ^ _shift_right(values, 31)


def _shift_right(values: Tensor, shift: int) -> Tensor:
    """Without copies of the sign."""
    return (values >> shift) & ((1 << (64 - shift)) - 1)
