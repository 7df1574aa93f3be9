"""Which outputs are copies of a target's, so that they may tie with it bit for bit.

A matrix product rounds equal columns differently, by where they stand in a tile. Copies are thus
found among the outputs themselves, before any product.
"""

import torch
from torch import Tensor

from memsolve_kernels.softmax.passes import accumulation_dtype

AT_A_TIME = 2**16  # elements of an output's bits, eight bytes each, stay in cache


def copies(outputs: Tensor, targets: Tensor) -> Tensor | None:
    """What each output is a copy of (N,), in int64: equal where all bits of (N, d) are.

    None where no target has a copy. Sums of the rows, which are equal for copies, mostly tell so at
    once; where some coincide, 64 bits of each row decide. A target outside [0, N) may be of any.
    """
    outputs = outputs.contiguous()  # rows of any other layout might be summed in different orders
    targets = targets.clamp(0, len(outputs) - 1)
    if not _shared(outputs.sum(1, dtype=accumulation_dtype(outputs.dtype)), targets):
        return None
    labels = _labels(outputs)
    return labels if _shared(labels, targets) else None


def _shared(labels: Tensor, targets: Tensor) -> bool:
    """Whether an item besides the target has the label (N,) of a target."""
    own = labels[targets].unique()
    if len(own) == 0:
        return False
    nearest = torch.searchsorted(own, labels).clamp_(max=len(own) - 1)
    return int(own.take(nearest).eq_(labels).count_nonzero()) > len(own)


def _labels(outputs: Tensor) -> Tensor:
    """A hash of each row's bits (N,): integers that wrap have the same sum in any order."""
    half = outputs.dtype in (torch.bfloat16, torch.float16)
    bits = outputs.view(torch.int16 if half else torch.int32)
    generator = torch.Generator().manual_seed(0)
    largest = torch.iinfo(torch.int64).max
    factors = torch.randint(-largest, largest, bits.shape[1:], generator=generator)
    factors = factors.to(outputs.device)
    rows = max(1, AT_A_TIME // bits.shape[1])
    return torch.cat([(part.long() * factors).sum(1) for part in bits.split(rows)])
