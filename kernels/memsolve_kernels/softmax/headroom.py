"""How large logits and outputs are, and so whether a sum of exponentials needs its maximum."""

import torch
from torch import Tensor

from memsolve_kernels.softmax.interface import in_accumulated_parts, in_parts
from memsolve_kernels.softmax.partials import accumulation_dtype
from memsolve_kernels.softmax.torch_tiles import LOG2_E

SUMMABLE = 64  # any number of outputs below 2**64 can be summed with small weights
ORDINARY = 32  # exponent of logits and of the largest output up to which products are safe
LARGEST_EXPONENT = 96  # 2**96 summed over 2**30 items fits float32, and 2**-96 is a normal number


def find_headroom(queries: Tensor, outputs: Tensor) -> Tensor | None:
    """The distance (1,), in base 2, to keep between a row's largest logit and its reference.

    None if no exponential, nor its product with an output, can overflow or underflow. The norms
    usually decide this; only if they are extreme are the outputs' columns read.
    """
    longest, largest = torch.stack((_norms(queries), _norms(outputs))).tolist()
    reach = longest * largest * LOG2_E
    if reach <= ORDINARY and 2**-ORDINARY <= largest <= 2**ORDINARY:
        return None
    sizes = _exponents(outputs)
    if reach + float(sizes.abs().amax()) <= LARGEST_EXPONENT:  # NaN is not
        return None
    return (sizes.amax() - SUMMABLE).clamp_min_(0)


def _exponents(outputs: Tensor) -> Tensor:
    """The base-2 logarithm of each column's largest element (d,); zero for a column of zeros."""
    parts = [torch.maximum(part.amax(0), part.amin(0).neg()) for part in in_parts(outputs)]
    largest = torch.stack(parts).amax(0).to(accumulation_dtype(outputs.dtype))
    return largest.masked_fill_(largest == 0, 1).log2_()


def _norms(rows: Tensor) -> Tensor:
    """The largest norm of a row; zero without rows."""
    if rows.shape[0] == 0:
        return rows.new_zeros((), dtype=accumulation_dtype(rows.dtype))
    norms = [torch.linalg.vector_norm(part, dim=1).amax() for part in in_accumulated_parts(rows)]
    return torch.stack(norms).amax()
