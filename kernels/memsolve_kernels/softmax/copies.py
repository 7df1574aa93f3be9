"""Which outputs are copies of a target's, so that they may tie with it bit for bit.

A matrix product rounds equal columns differently, by where they stand in a tile. Copies are thus
found among the outputs themselves, before any product: once for a tensor, as long as it lives and
torch has counted no write to it.
"""

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

AT_A_TIME = 2**16  # elements of an output's bits, eight bytes each, stay in cache

_known = WeakIdKeyDictionary()
"""Of outputs: their version, and their labels, or None where no two of them are equal."""


def copies(outputs: Tensor, targets: Tensor) -> Tensor | None:
    """What each output is a copy of (N,), in int64: equal where all bits of (N, d) are.

    None where no target has a copy. A target outside [0, N) may be of any.
    """
    labels = _labels_of(outputs)
    if labels is None:
        return None
    own = labels[targets.clamp(0, len(outputs) - 1)].unique()
    return labels if int(torch.isin(labels, own).sum()) > len(own) else None


def _labels_of(outputs: Tensor) -> Tensor | None:
    version = None if outputs.is_inference() else outputs._version
    if version is not None and (found := _known.get(outputs)) and found[0] == version:
        kept: Tensor | None = found[1]
        return kept
    labels = _labels(outputs.contiguous())
    ordered = labels.sort().values
    shared = labels if bool((ordered[1:] == ordered[:-1]).any()) else None
    _known[outputs] = version, shared
    return shared


def _labels(outputs: Tensor) -> Tensor:
    """A hash of each row's bits (N,): integers that wrap have the same sum in any order."""
    half = outputs.dtype in (torch.bfloat16, torch.float16)
    bits = outputs.view(torch.int16 if half else torch.int32)
    generator = torch.Generator().manual_seed(0)
    largest = torch.iinfo(torch.int64).max
    factors = torch.randint(
        -largest, largest, bits.shape[1:], generator=generator, device="cpu"
    ).to(outputs.device)
    rows = max(1, AT_A_TIME // bits.shape[1])
    return torch.cat([(part.long() * factors).sum(1) for part in bits.split(rows)])
