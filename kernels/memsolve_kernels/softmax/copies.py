"""Detection of outputs that are copies of a target's, so that they tie with it exactly.

A matrix product rounds equal columns differently, by their position in a block: by its logit, a
copy would rank above or below the target by chance. Copies are therefore detected by their bits, in
every call: a cache across calls could be stale, since no counter sees every write.

The first eight bytes of each row are compared, which costs little compared with the logits. Only if
another output has the same first bytes as a target's are complete rows hashed, a tile at a time.
"""

import torch
from torch import Tensor

ROWS = 2**16  # rows whose first bytes are compared at a time
SLOTS = 2**15  # smallest size of the hash table of first bytes
SLOTS_A_TARGET = 32  # of other rows, one in so many falls into a target's slot by chance
AT_A_TIME = 2**16  # elements hashed at a time, eight bytes each: they stay in cache
NO_ROW = -1  # a label of no row, except with probability 2**-64
_FACTOR = 0x1E3779B97F4A7C15  # odd; products have well mixed upper bits (Fibonacci hashing)
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def labels(outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The hash (B,) in int64 of each target's output, which its copies share.

    None if the outputs contain no copy of any target's. A target outside [0, N) has `NO_ROW`.

    Args:
        outputs: (N, d), at least one.
        targets: (B,), in int64.
        dtype: float32 or float64, in which rows are hashed.
    """
    inside = targets.clamp(0, outputs.shape[0] - 1)
    if not _prefixes_collide(outputs, inside):
        return None
    return hash_rows(outputs[inside].to(dtype)).masked_fill_(targets != inside, NO_ROW)


def hash_rows(rows: Tensor) -> Tensor:
    """A hash of the bits of each row (R, d) in float32 or float64, (R,) in int64.

    Integer sums that wrap do not depend on the order, so that equal rows have equal hashes.
    """
    halves = rows.shape[1] * rows.element_size() // 4
    generator = torch.Generator().manual_seed(0)
    largest = torch.iinfo(torch.int64).max
    factors = torch.randint(-largest, largest, (halves,), generator=generator, device="cpu")
    factors = factors.to(rows.device)
    parts = (
        part.contiguous().view(torch.int32) for part in rows.split(max(1, AT_A_TIME // halves))
    )
    return torch.cat([(part.long() * factors).sum(1) for part in parts])


def _prefixes_collide(outputs: Tensor, targets: Tensor) -> bool:
    """Whether two of the outputs have the same first bytes as some target's.

    A hash table selects the rows to compare: the targets', their copies, and a few that share a
    slot by chance.
    """
    size = outputs.element_size()
    width = min(8, 1 << (outputs.shape[1] * size).bit_length() - 1)
    first, dtype = outputs[:, : width // size], _INTEGERS[width]
    slot_bits = max(SLOTS, SLOTS_A_TARGET * targets.shape[0]).bit_length() - 1
    table = torch.zeros(1 << slot_bits, dtype=torch.bool, device=outputs.device)
    table.index_fill_(0, _slots(_bits(first[targets], dtype), slot_bits), True)
    seen: set[int] = set()
    for part in torch.split(first, ROWS):
        bits = _bits(part, dtype)
        matches = bits[table[_slots(bits, slot_bits)]].tolist()
        expected = len(seen) + len(matches)
        seen.update(matches)
        if len(seen) < expected:
            return True
    return False


def _bits(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Each short row as one integer (R,), in int64; copied first, for alignment."""
    return rows.clone(memory_format=torch.contiguous_format).view(dtype)[:, 0].long()


def _slots(bits: Tensor, slot_bits: int) -> Tensor:
    """The slot of each integer in a table of 2**slot_bits; negative ones count from its end."""
    return (bits * _FACTOR) >> 64 - slot_bits
